-- rows: 200000000
-- must: 66   aim: 150
CREATE TABLE src (a BIGINT, b BIGINT, c BIGINT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '1000000000', 'number-of-rows' = '200000000',
  'fields.a.min' = '0', 'fields.a.max' = '1000000', 'fields.b.min' = '0', 'fields.b.max' = '1000000',
  'fields.c.min' = '0', 'fields.c.max' = '1000000'
);
CREATE TABLE dst (a BIGINT, d BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO dst SELECT a, b + c FROM src WHERE a < 500000;
