UPDATE public.products SET unit_price = unit_price * 2 WHERE product_id % 3 = 0;
UPDATE public.orders SET ship_name = ship_name || ' & Co' WHERE order_id % 5 = 0;
DELETE FROM public.order_details WHERE order_id % 7 = 0;
INSERT INTO public.customers (customer_id, company_name) VALUES ('LATE1', 'Late one');
