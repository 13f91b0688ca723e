"""A usual script from one table to another: boto3 scan, batch_writer, one process a segment.

Usage: boto3_items.py ENDPOINT ITEMS PROCESSES, the target's endpoint in CUTOVER_BENCH_TARGET.
Prints one JSON line: rows and seconds.
"""
import json
import multiprocessing
import os
import sys
import time

import boto3


def copy(endpoint, segment, total):
    source = boto3.resource("dynamodb", endpoint_url=endpoint).Table("CloudShelf-Books")
    target = boto3.resource("dynamodb", endpoint_url=os.environ["CUTOVER_BENCH_TARGET"]).Table("Books")
    items, more = 0, {}
    with target.batch_writer() as batch:
        while True:
            page = source.scan(Segment=segment, TotalSegments=total, **more)
            for item in page["Items"]:
                batch.put_item(Item=item)
                items += 1
            if "LastEvaluatedKey" not in page:
                return items
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}


def main():
    endpoint, processes = sys.argv[1], int(sys.argv[3])
    with multiprocessing.Pool(processes) as pool:
        began = time.monotonic()
        rows = sum(pool.starmap(copy, [(endpoint, n, processes) for n in range(processes)]))
        seconds = time.monotonic() - began
    print(json.dumps({"rows": rows, "seconds": seconds}))


if __name__ == "__main__":
    main()
