-- rows: 10000000
-- must: 2.5   aim: 6
CREATE TABLE l (k BIGINT, v BIGINT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '1000000000', 'number-of-rows' = '5000000',
  'fields.k.min' = '0', 'fields.k.max' = '4999999', 'fields.v.min' = '0', 'fields.v.max' = '1000000000'
);
CREATE TABLE r (k BIGINT, w BIGINT) WITH (
  'connector' = 'datagen', 'seed' = '7', 'rows-per-second' = '1000000000', 'number-of-rows' = '5000000',
  'fields.k.min' = '0', 'fields.k.max' = '4999999', 'fields.w.min' = '0', 'fields.w.max' = '1000000000'
);
CREATE TABLE dst (k BIGINT, v BIGINT, w BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO dst SELECT l.k, l.v, r.w FROM l JOIN r ON l.k = r.k;
