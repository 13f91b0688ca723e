"""A good hand-written loader: boto3 scan, COPY text, one process a segment, a commit a page.

Usage: boto3_copy.py ENDPOINT ROWS PROCESSES, the target's URL in CUTOVER_BENCH_TARGET.
Prints one JSON line: rows and seconds.
"""
import io
import json
import multiprocessing
import os
import sys
import time

import boto3
import psycopg2

COLUMNS = "id, title, author, description, price, category, isbn, stock_quantity, created_at, updated_at"


def field(value):
    if value is None:
        return "\\N"
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def load(endpoint, segment, total):
    table = boto3.client("dynamodb", endpoint_url=endpoint)
    conn = psycopg2.connect(os.environ["CUTOVER_BENCH_TARGET"])
    cursor = conn.cursor()
    rows = 0
    for page in table.get_paginator("scan").paginate(TableName="CloudShelf-Books", Segment=segment, TotalSegments=total):
        buffer = io.StringIO()
        for item in page["Items"]:
            buffer.write("\t".join(field(v) for v in (
                item["bookId"]["S"],
                item["title"]["S"],
                item["author"]["S"],
                item.get("description", {}).get("S", ""),
                item["price"]["N"],
                item.get("category", {}).get("S", "General"),
                item.get("isbn", {}).get("S"),
                int(item.get("stockQuantity", {}).get("N", 0)),
                item.get("createdAt", {}).get("S"),
                item.get("updatedAt", {}).get("S"),
            )) + "\n")
            rows += 1
        buffer.seek(0)
        cursor.copy_expert(f"COPY books ({COLUMNS}) FROM STDIN", buffer)
        conn.commit()
    conn.close()
    return rows


def main():
    endpoint, processes = sys.argv[1], int(sys.argv[3])
    with multiprocessing.Pool(processes) as pool:
        began = time.monotonic()
        rows = sum(pool.starmap(load, [(endpoint, n, processes) for n in range(processes)]))
        seconds = time.monotonic() - began
    print(json.dumps({"rows": rows, "seconds": seconds}))


if __name__ == "__main__":
    main()
