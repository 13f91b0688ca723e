UPDATE public.film SET rental_rate = rental_rate + 0.01, special_features = special_features || ARRAY['Late'] WHERE film_id % 7 = 0;
UPDATE public.payment SET amount = amount + 1 WHERE payment_id % 11 = 0;
UPDATE public.payment SET payment_date = payment_date + interval '1 month' WHERE payment_id % 13 = 0 AND payment_date < '2022-06-01';
DELETE FROM public.payment WHERE payment_id % 17 = 0;
INSERT INTO public.customer (store_id, first_name, last_name, address_id) SELECT 1, 'ADA', 'NUMBER ' || n, 5 FROM generate_series(1, 20) n;
UPDATE public.rental SET return_date = now() WHERE rental_id % 31 = 0;
