"""The usual migration guide's script: boto3 scan, one INSERT ... ON CONFLICT a row, a commit a row.

Usage: boto3_insert.py ENDPOINT ROWS PROCESSES, the target's URL in CUTOVER_BENCH_TARGET.
Prints one JSON line: rows and seconds.
"""
import json
import os
import sys
import time
from decimal import Decimal

import boto3
import psycopg2

INSERT = """
INSERT INTO books (id, title, author, description, price, category, isbn, stock_quantity)
VALUES (%(id)s, %(title)s, %(author)s, %(description)s, %(price)s, %(category)s, %(isbn)s, %(stock_quantity)s)
ON CONFLICT (id) DO UPDATE SET
    title = EXCLUDED.title, author = EXCLUDED.author, description = EXCLUDED.description, price = EXCLUDED.price,
    category = EXCLUDED.category, stock_quantity = EXCLUDED.stock_quantity, updated_at = NOW()
"""


def main():
    table = boto3.client("dynamodb", endpoint_url=sys.argv[1])
    conn = psycopg2.connect(os.environ["CUTOVER_BENCH_TARGET"])
    cursor = conn.cursor()
    rows = 0
    began = time.monotonic()
    for page in table.get_paginator("scan").paginate(TableName="CloudShelf-Books"):
        for item in page["Items"]:
            cursor.execute(INSERT, {
                "id": item["bookId"]["S"],
                "title": item["title"]["S"],
                "author": item["author"]["S"],
                "description": item.get("description", {}).get("S", ""),
                "price": Decimal(item["price"]["N"]),
                "category": item.get("category", {}).get("S", "General"),
                "isbn": item.get("isbn", {}).get("S"),
                "stock_quantity": int(item.get("stockQuantity", {}).get("N", 0)),
            })
            conn.commit()
            rows += 1
    print(json.dumps({"rows": rows, "seconds": time.monotonic() - began}))
    conn.close()


if __name__ == "__main__":
    main()
