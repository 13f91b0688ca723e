INSERT INTO shop.customers (name) VALUES ('New one');
UPDATE shop.people SET street = 'new side' WHERE id % 5 = 0;
INSERT INTO shop.films (title, year) SELECT 'Sequel ' || n, 2024 FROM generate_series((SELECT count(*) FROM shop.films), (SELECT count(*) + 10 FROM shop.films)) n;
UPDATE shop.sales SET day = '2024-02-02' WHERE id % 17 = 0;
DELETE FROM shop.sales WHERE id % 19 = 0;
INSERT INTO shop.sales (day, customer, film) SELECT '2030-05-05', n, n FROM generate_series(1, 20) n;
