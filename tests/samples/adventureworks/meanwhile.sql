UPDATE person.person SET middlename = 'M', demographics = NULL WHERE businessentityid % 5 = 0;
DELETE FROM person.emailaddress WHERE businessentityid % 7 = 0;
INSERT INTO production.productcategory (name) VALUES ('Late');
UPDATE production.productphoto SET thumbnailphoto = '\x00ff' WHERE productphotoid % 3 = 0;
