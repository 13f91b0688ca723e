INSERT INTO public.customer (store_id, first_name, last_name, address_id) SELECT 2, 'GRACE', 'NUMBER ' || n, 6 FROM generate_series(1, 20) n;
UPDATE public.film SET title = title || ' AGAIN' WHERE film_id % 50 = 0;
UPDATE public.payment SET payment_date = payment_date - interval '1 month' WHERE payment_id % 19 = 0 AND payment_date > '2022-03-01';
INSERT INTO public.payment (customer_id, staff_id, rental_id, amount, payment_date) SELECT 1, 1, rental_id, 3, '2022-05-05' FROM public.rental LIMIT 40;
DELETE FROM public.payment WHERE payment_id % 23 = 0;
