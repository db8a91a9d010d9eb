-- One operator of every kind that keeps state. Paths are relative: it can lie anywhere.
SET 'pipeline.name' = 'golden';
SET 'execution.checkpointing.interval' = '400 ms';
CREATE TABLE orders (id BIGINT, customer_id BIGINT, amount BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'in/orders', 'format' = 'debezium-json', 'scan.rate-limit' = '100');
CREATE TABLE customers (id BIGINT, name STRING, region STRING) WITH (
  'connector' = 'filesystem', 'path' = 'in/customers.json', 'format' = 'json');
CREATE TABLE clicks (customer_id BIGINT, page STRING, at AS PROCTIME()) WITH (
  'connector' = 'filesystem', 'path' = 'in/clicks.json', 'format' = 'json', 'scan.rate-limit' = '100');
CREATE TABLE joined (id BIGINT, name STRING, region STRING, amount BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/joined', 'format' = 'debezium-json');
CREATE TABLE totals (region STRING, n BIGINT, total BIGINT, most BIGINT, least BIGINT, amounts BIGINT,
  PRIMARY KEY (region) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/totals', 'format' = 'debezium-json');
CREATE TABLE top (region STRING, rn BIGINT, id BIGINT, amount BIGINT, PRIMARY KEY (region, rn) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/top', 'format' = 'debezium-json');
CREATE TABLE newest (customer_id BIGINT, id BIGINT, amount BIGINT, PRIMARY KEY (customer_id) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/newest', 'format' = 'debezium-json');
CREATE TABLE latest (customer_id BIGINT, page STRING, PRIMARY KEY (customer_id) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/latest', 'format' = 'debezium-json');
CREATE TABLE stamped (id BIGINT, amount BIGINT, stamp DOUBLE, PRIMARY KEY (id) NOT ENFORCED) WITH (
  'connector' = 'filesystem', 'path' = 'out/stamped', 'format' = 'debezium-json');
EXECUTE STATEMENT SET BEGIN
  INSERT INTO joined
    SELECT o.id, c.name, c.region, o.amount FROM orders o JOIN customers c ON o.customer_id = c.id;
  INSERT INTO totals
    SELECT c.region, COUNT(*), SUM(o.amount), MAX(o.amount), MIN(o.amount), COUNT(DISTINCT o.amount)
      FROM orders o JOIN customers c ON o.customer_id = c.id GROUP BY c.region;
  INSERT INTO top
    SELECT region, rn, id, amount FROM (
      SELECT c.region, o.id, o.amount,
             ROW_NUMBER() OVER (PARTITION BY c.region ORDER BY o.amount DESC, o.id) AS rn
        FROM orders o JOIN customers c ON o.customer_id = c.id)
     WHERE rn <= 3;
  INSERT INTO newest
    SELECT customer_id, id, amount FROM orders;
  INSERT INTO latest
    SELECT customer_id, page FROM (
      SELECT customer_id, page, ROW_NUMBER() OVER (PARTITION BY customer_id ORDER BY at DESC) AS rn FROM clicks)
     WHERE rn = 1;
  INSERT INTO stamped
    SELECT id, amount, RAND() FROM orders;
END;
