INSERT INTO person.businessentity DEFAULT VALUES;
INSERT INTO person.businessentity (rowguid) SELECT uuid_generate_v1() FROM generate_series(1, 400);
INSERT INTO person.person (businessentityid, persontype, firstname, lastname, demographics)
    SELECT businessentityid, 'EM', 'Person', 'Number ' || businessentityid, xmlparse(CONTENT '<IndividualSurvey><Education>' || businessentityid || '</Education></IndividualSurvey>')
    FROM person.businessentity;
INSERT INTO person.emailaddress (businessentityid, emailaddress) SELECT businessentityid, 'p' || businessentityid || '@example.org' FROM person.person;
INSERT INTO person.countryregion SELECT 'C' || chr(65 + n), 'Country ' || n, now() FROM generate_series(0, 20) n;
INSERT INTO sales.salesterritory (name, countryregioncode, "group") SELECT 'Territory ' || countryregioncode, countryregioncode, 'World' FROM person.countryregion;
INSERT INTO person.stateprovince (stateprovincecode, countryregioncode, name, territoryid)
    SELECT 'S', countryregioncode, 'State of ' || countryregioncode, territoryid FROM sales.salesterritory;
INSERT INTO person.address (addressline1, city, stateprovinceid, postalcode) SELECT 'Street ' || n, 'City', 1 + n % 20, n::text FROM generate_series(1, 300) n;
INSERT INTO production.productcategory (name) SELECT 'Category ' || n FROM generate_series(1, 9) n;
INSERT INTO production.productphoto (thumbnailphotofilename, thumbnailphoto) SELECT n || '.gif', decode(md5(n::text), 'hex') FROM generate_series(1, 50) n;
