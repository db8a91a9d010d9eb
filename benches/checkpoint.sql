-- 10 million keys, of which a hundredth changes between two checkpoints.
SET 'execution.checkpointing.interval' = '1 s';
CREATE TABLE fill (k BIGINT, v BIGINT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '0',
  'fields.k.kind' = 'sequence', 'fields.k.start' = '0', 'fields.k.end' = '9999999',
  'fields.v.min' = '0', 'fields.v.max' = '1000000000'
);
CREATE TABLE touch (k BIGINT, v BIGINT) WITH (
  'connector' = 'datagen', 'rows-per-second' = '100000',
  'fields.k.min' = '0', 'fields.k.max' = '9999999', 'fields.v.min' = '0', 'fields.v.max' = '1000000000'
);
CREATE TABLE dst (k BIGINT, n BIGINT, m BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO dst
SELECT k, COUNT(*), MAX(v) FROM (SELECT k, v FROM fill UNION ALL SELECT k, v FROM touch) GROUP BY k;
