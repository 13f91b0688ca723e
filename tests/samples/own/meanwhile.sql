UPDATE shop.customers SET mails = mails || ARRAY['late@example.org'] WHERE id % 9 = 0;
UPDATE shop.people SET street = 'by the view' WHERE id = 3;
INSERT INTO shop.good (title) VALUES ('By the view');
UPDATE shop.films SET rating = 'R', data = NULL WHERE id % 10 = 0;
UPDATE shop.sales SET day = day + 366 WHERE id % 12 = 0;
DELETE FROM shop.sales WHERE id % 13 = 0;
INSERT INTO shop.sales (day, customer, film) SELECT '2024-05-05', n, n FROM generate_series(1, 30) n;
UPDATE shop.rooms SET number = 8 WHERE id % 2 = 0;
