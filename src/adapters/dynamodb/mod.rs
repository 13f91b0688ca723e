//! DynamoDB and DynamoDB Streams.
