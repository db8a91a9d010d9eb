-- What is in MySQL before the demo begins: a user with the rights that Thalweg needs, 24 customers, 100,000 orders.
CREATE USER thalweg IDENTIFIED BY 'secret';
CREATE DATABASE shop;
GRANT SELECT ON shop.* TO thalweg;
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO thalweg;
USE shop;

CREATE TABLE customers (id BIGINT PRIMARY KEY, name VARCHAR(40) NOT NULL, region VARCHAR(10) NOT NULL);
INSERT INTO customers VALUES
  (1, 'Ada', 'north'), (2, 'Edgar', 'north'), (3, 'Katherine', 'north'), (4, 'Alan', 'north'), (5, 'Jean', 'north'), (6, 'Lynn', 'north'),
  (7, 'Grace', 'south'), (8, 'Edsger', 'south'), (9, 'Jim', 'south'), (10, 'Radia', 'south'), (11, 'Niklaus', 'south'), (12, 'Frances', 'south'),
  (13, 'Barbara', 'east'), (14, 'Donald', 'east'), (15, 'Hedy', 'east'), (16, 'Tony', 'east'), (17, 'Leslie', 'east'), (18, 'Evi', 'east'),
  (19, 'John', 'west'), (20, 'Margaret', 'west'), (21, 'Dennis', 'west'), (22, 'Shafi', 'west'), (23, 'Ken', 'west'), (24, 'Karen', 'west');

CREATE TABLE orders (
  id BIGINT AUTO_INCREMENT PRIMARY KEY,
  customer_id BIGINT NOT NULL,
  amount DECIMAL(10, 2) NOT NULL,
  state ENUM('new', 'paid', 'sent') NOT NULL DEFAULT 'new',
  changed DATETIME NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP
);
SET cte_max_recursion_depth = 100000;
INSERT INTO orders (customer_id, amount)
WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
SELECT 1 + FLOOR(RAND(1) * 24), 1 + ROUND(RAND(2) * 499, 2) FROM n;
