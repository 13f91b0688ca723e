//! SSM, API Gateway and CloudWatch.
