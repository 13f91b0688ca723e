//! Pre-rendered answers of a stream shard: every book of the pages changed once more, oldest first.

use std::fmt::Write as _;

use axum::body::Bytes;

use super::books::RawPage;

/// The stream's name.
pub(super) const ARN: &str = "arn:aws:dynamodb:us-east-1:000000000000:table/CloudShelf-Books/stream/bench";
/// Most records of an answer, and most bytes: as the service answers.
const RECORDS: usize = 1_000;
const BYTES: usize = 1024 * 1024;

/// The first bytes of every rendered item: its key follows.
const BEFORE_KEY: usize = "{\"bookId\":{\"S\":\"".len();
const UUID: usize = 36;

/// The text of an item's key.
pub(super) fn key(item: &[u8]) -> &[u8] {
    item.get(BEFORE_KEY..BEFORE_KEY + UUID).unwrap_or_default()
}

/// The items of a page, each as it stands there.
pub(super) fn items(page: &RawPage) -> impl Iterator<Item = &[u8]> {
    let start = |n: usize| Some(page.fresh.get(n)?.0 as usize + 4 - UUID - BEFORE_KEY);
    // An item ends before the comma of the next one, the last one before the bracket.
    (0..page.fresh.len()).filter_map(move |n| {
        let end = start(n + 1).unwrap_or(page.head.len()) - 1;
        page.head.get(start(n)?..end)
    })
}

/// Answers of `GetRecords` without their last member, each with its number of records. Records include the old image,
/// as in the view of new and old images.
pub(super) fn answers(pages: &[RawPage]) -> Vec<(Bytes, u64)> {
    let mut answers = Vec::new();
    let (mut body, mut count) = (String::from("{\"Records\":["), 0);
    for (n, item) in pages.iter().flat_map(items).map(String::from_utf8_lossy).enumerate() {
        // The key is the first attribute.
        let key = item.find('}').and_then(|end| item.get(..=end)).unwrap_or("{");
        if count == RECORDS || body.len() + 2 * item.len() + 400 > BYTES {
            answers.push((Bytes::from(std::mem::take(&mut body) + "]"), count as u64));
            (body, count) = (String::from("{\"Records\":["), 0);
        }
        if count > 0 {
            body.push(',');
        }
        let _ = write!(
            body,
            "{{\"awsRegion\":\"us-east-1\",\"dynamodb\":{{\"ApproximateCreationDateTime\":1795358836,\"Keys\":{key}}},\
             \"NewImage\":{item},\"OldImage\":{item},\"SequenceNumber\":\"{:021}\",\"SizeBytes\":{},\
             \"StreamViewType\":\"NEW_AND_OLD_IMAGES\"}},\"eventID\":\"{n:032x}\",\"eventName\":\"MODIFY\",\
             \"eventSource\":\"aws:dynamodb\",\"eventVersion\":\"1.1\"}}",
            n + 1,
            2 * item.len(),
        );
        count += 1;
    }
    if count > 0 {
        answers.push((Bytes::from(body + "]"), count as u64));
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::super::books::pages;
    use super::*;

    #[test]
    fn every_book_is_a_record_in_an_answer_of_the_service_s_size() {
        let answers = answers(&pages(3_000, 7));
        assert!(answers.len() > 3 && answers.iter().all(|(body, count)| body.len() <= BYTES && *count <= 1_000));
        assert_eq!(answers.iter().map(|(_, count)| count).sum::<u64>(), 3_000);
        for (body, count) in &answers {
            let whole = format!("{}}}", std::str::from_utf8(body).unwrap());
            let value: serde_json::Value = serde_json::from_str(&whole).unwrap();
            let records = value["Records"].as_array().unwrap();
            assert_eq!(records.len() as u64, *count);
            let data = &records[0]["dynamodb"];
            assert_eq!(data["Keys"]["bookId"], data["NewImage"]["bookId"]);
        }
    }
}
