//! What is attached to a table and stays behind when the table moves: asked for by calls of their own, each of which a role
//! may lack the right to.

use serde_json::{Value as Json, json};

use super::wire::Wire;
use crate::ports::{ErrorKind, PortError, PortResult};

/// What is tried.
const TRIED: &str = "read what is attached to";
/// Reads and writes a second that a table on demand is ready for as it is made.
const NEW_TABLE: (u64, u64) = (12_000, 4_000);

/// What is attached to a table, in words. What may not be asked, or is not known where it is asked, is said to be not known.
pub(super) async fn to_table(wire: &Wire, table: &str) -> PortResult<Vec<String>> {
    let at = (TRIED, table);
    let of_table = json!({"TableName": table});
    let described = ask(wire, "DescribeTable", &of_table, at).await?;
    let described = described.get("Table").unwrap_or(&Json::Null);
    let policy = json!({"ResourceArn": text(described, "TableArn").unwrap_or(table)});
    let (policy, kinesis, insights) = tokio::join!(
        ask(wire, "GetResourcePolicy", &policy, at),
        ask(wire, "DescribeKinesisStreamingDestination", &of_table, at),
        ask(wire, "DescribeContributorInsights", &of_table, at),
    );
    let mut found = Vec::new();
    match policy {
        Ok(_) => found.push("a resource policy: whoever it lets in is not let in at the new table".to_owned()),
        Err(e) if e.came_back.starts_with("PolicyNotFoundException") => {}
        Err(e) => found.push(not_known("a resource policy", "GetResourcePolicy", &e)),
    }
    match kinesis {
        Ok(answer) => found.extend(destinations(&answer)),
        Err(e) => found.push(not_known("Kinesis streams", "DescribeKinesisStreamingDestination", &e)),
    }
    match insights {
        Ok(answer) => {
            let on = text(&answer, "ContributorInsightsStatus").filter(|s| matches!(*s, "ENABLED" | "ENABLING"));
            found.extend(on.map(|_| "contributor insights: turn them on at the new table".to_owned()));
        }
        Err(e) => found.push(not_known("contributor insights", "DescribeContributorInsights", &e)),
    }
    found.extend(warm(described));
    Ok(found)
}

/// Kinesis streams that get its changes, or are about to.
fn destinations(answer: &Json) -> Vec<String> {
    let all = answer.get("KinesisDataStreamDestinations").and_then(Json::as_array);
    let one = |to: &Json| {
        let status = text(to, "DestinationStatus").unwrap_or("?");
        // One that was turned off is listed for a day.
        let off = matches!(status, "DISABLED" | "DISABLING" | "ENABLE_FAILED");
        let stream = text(to, "StreamArn").unwrap_or("?");
        (!off).then(|| format!("the Kinesis stream {stream} ({status}): it gets no changes of the new table"))
    };
    all.into_iter().flatten().filter_map(one).collect()
}

/// What the table is ready for at once, where that is more than a new one.
fn warm(described: &Json) -> Option<String> {
    let units = |name: &str| described.get("WarmThroughput")?.get(name)?.as_u64();
    let (reads, writes) = (units("ReadUnitsPerSecond")?, units("WriteUnitsPerSecond")?);
    (reads > NEW_TABLE.0 || writes > NEW_TABLE.1).then(|| {
        format!(
            "warm throughput of {reads} reads and {writes} writes a second: a new table begins at {} and {}; warm it up \
             before customers come",
            NEW_TABLE.0, NEW_TABLE.1
        )
    })
}

/// Never none: nobody has seen that there is none.
fn not_known(what: &str, operation: &str, why: &PortError) -> String {
    let code = why.came_back.split([':', ' ']).next().unwrap_or_default();
    let code = if code.is_empty() { "no reason was given" } else { code };
    match why.kind {
        ErrorKind::Denied => format!("{what}: not known, for dynamodb:{operation} is denied ({code})"),
        _ => format!("{what}: not known, for {operation} was refused ({code})"),
    }
}

async fn ask(wire: &Wire, operation: &str, body: &Json, (tried, on): (&str, &str)) -> PortResult<Json> {
    let answer = wire.post(operation, body.to_string(), tried, on).await?;
    serde_json::from_slice(&answer)
        .map_err(|_| PortError::new(ErrorKind::Internal, tried, on, format!("{operation}: an answer that is not JSON")))
}

fn text<'j>(of: &'j Json, name: &str) -> Option<&'j str> {
    of.get(name)?.as_str()
}
