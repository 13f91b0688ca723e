UPDATE public.employees SET notes = notes || ' (new side)';
INSERT INTO public.order_details SELECT 10248, product_id, 1, 1, 0 FROM public.products WHERE product_id > 60 ON CONFLICT DO NOTHING;
DELETE FROM public.order_details WHERE order_id % 11 = 0;
