INSERT INTO person.businessentity (rowguid) SELECT uuid_generate_v1() FROM generate_series(1, 20);
UPDATE person.person SET suffix = 'Jr' WHERE businessentityid % 11 = 0;
DELETE FROM person.emailaddress WHERE businessentityid % 11 = 0;
INSERT INTO person.address (addressline1, city, stateprovinceid, postalcode) SELECT 'New ' || n, 'City', 3, n::text FROM generate_series(1, 20) n;
