-- MySQL to Kafka, exactly once: all changes of a table, and beside them a join and a Top-N per region, kept up to date.
-- `scripts/demo mysql-kafka` starts both servers, runs this, kills it, runs it again, and proves both topics.

SET 'pipeline.name' = 'shop';
SET 'execution.checkpointing.interval' = '300 ms';

CREATE TABLE orders (
  id          BIGINT,
  customer_id BIGINT,
  amount      DECIMAL(10, 2),
  state       STRING,
  changed     TIMESTAMP(0),
  PRIMARY KEY (id) NOT ENFORCED
) WITH (
  'connector' = 'mysql-cdc',
  'hostname' = '127.0.0.1', 'port' = '3306', 'username' = 'thalweg', 'password' = 'secret',
  'database-name' = 'shop', 'table-name' = 'orders',
  'scan.incremental.snapshot.chunk.size' = '100'       -- small, so that there is a middle in which to kill it
);

CREATE TABLE customers (
  id     BIGINT,
  name   STRING,
  region STRING,
  PRIMARY KEY (id) NOT ENFORCED
) WITH (
  'connector' = 'mysql-cdc',
  'hostname' = '127.0.0.1', 'port' = '3306', 'username' = 'thalweg', 'password' = 'secret',
  'database-name' = 'shop', 'table-name' = 'customers'
);

CREATE TABLE orders_log (
  id          BIGINT,
  customer_id BIGINT,
  amount      DECIMAL(10, 2),
  state       STRING,
  changed     TIMESTAMP(0),
  PRIMARY KEY (id) NOT ENFORCED
) WITH (
  'connector' = 'kafka', 'topic' = 'orders', 'properties.bootstrap.servers' = '127.0.0.1:9092',
  'format' = 'debezium-json'
);

CREATE TABLE top_customers (
  region STRING,
  rn     BIGINT,
  name   STRING,
  total  DECIMAL(38, 2),
  PRIMARY KEY (region, rn) NOT ENFORCED
) WITH (
  'connector' = 'upsert-kafka', 'topic' = 'top-customers', 'properties.bootstrap.servers' = '127.0.0.1:9092',
  'key.format' = 'json', 'value.format' = 'json'
);

-- One job, so that both tables are read once, from one stream of the binlog.
EXECUTE STATEMENT SET BEGIN
  INSERT INTO orders_log SELECT id, customer_id, amount, state, changed FROM orders;

  INSERT INTO top_customers
  SELECT region, rn, name, total
  FROM (
    SELECT region, name, total, ROW_NUMBER() OVER (PARTITION BY region ORDER BY total DESC, name) AS rn
    FROM (
      SELECT c.region, c.name, SUM(o.amount) AS total
      FROM orders AS o JOIN customers AS c ON o.customer_id = c.id
      GROUP BY c.region, c.name
    )
  )
  WHERE rn <= 3;
END;
