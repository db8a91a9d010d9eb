-- rows: 20000000
-- must: 5   aim: 15
CREATE TABLE src (k BIGINT, v BIGINT, id BIGINT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '1000000000', 'number-of-rows' = '20000000',
  'fields.k.min' = '0', 'fields.k.max' = '9999', 'fields.v.min' = '0', 'fields.v.max' = '1000000000',
  'fields.id.min' = '0', 'fields.id.max' = '1000000000'
);
CREATE TABLE dst (k BIGINT, rn BIGINT, v BIGINT, id BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO dst
SELECT k, rn, v, id
FROM (SELECT k, v, id, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) AS rn FROM src)
WHERE rn <= 10;
