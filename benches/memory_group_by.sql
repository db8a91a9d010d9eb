-- rows: 20000000
-- budget: 64
SET 'state.memory-budget' = '64 mb';
CREATE TABLE src (k BIGINT, v BIGINT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '1000000000', 'number-of-rows' = '20000000',
  'fields.k.kind' = 'sequence', 'fields.k.start' = '0', 'fields.k.end' = '19999999', 'fields.v.min' = '0', 'fields.v.max' = '1000000000'
);
CREATE TABLE dst (k BIGINT, n BIGINT, m BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO dst SELECT k, COUNT(*), MAX(v) FROM src GROUP BY k;
