//! How far a service's clock is from this machine's, by the `Date` of its answers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use aws_smithy_types::date_time::Format;

/// An answer that took longer says nothing of the clock.
const TRUSTED: Duration = Duration::from_secs(15 * 60);

/// How far ahead the service is, as last seen.
#[derive(Debug)]
pub struct Clock(AtomicI64);

impl Default for Clock {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MIN))
    }
}

impl Clock {
    /// By how much the service is ahead of this machine, in milliseconds; negative when it is behind. `None` while
    /// nothing was seen.
    pub fn ahead_ms(&self) -> Option<i64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|ms| *ms != i64::MIN)
    }

    /// This machine's time as the service sees it.
    pub fn now(&self) -> SystemTime {
        let now = SystemTime::now();
        let ms = self.ahead_ms().unwrap_or(0);
        let by = Duration::from_millis(ms.unsigned_abs());
        if ms < 0 { now.checked_sub(by) } else { now.checked_add(by) }.unwrap_or(now)
    }

    /// Takes the `Date` of an answer, with the times at which its request was sent and the answer came. An answer from
    /// a cache (`age`) has an old date and is ignored.
    pub fn saw(&self, date: Option<&str>, cached: bool, sent: SystemTime, came: SystemTime) {
        let took = came.duration_since(sent).unwrap_or_default();
        let date = date.and_then(|d| DateTime::from_str(d, Format::HttpDate).ok());
        let Some(server) = date.and_then(|d| SystemTime::try_from(d).ok()).filter(|_| !cached && took <= TRUSTED)
        else {
            return;
        };
        // The date is in whole seconds: half a second is the best estimate of what was cut off.
        let (server, middle) = (server + Duration::from_millis(500), sent + took / 2);
        let ms = match server.duration_since(middle) {
            Ok(ahead) => i64::try_from(ahead.as_millis()).unwrap_or(i64::MAX),
            Err(behind) => -i64::try_from(behind.duration().as_millis()).unwrap_or(i64::MAX),
        };
        self.0.store(ms, Ordering::Relaxed);
    }
}

/// Reads the answers of an SDK client.
#[derive(Debug)]
pub(super) struct Watch(pub(super) std::sync::Arc<Clock>);

#[derive(Debug)]
struct Sent(SystemTime);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

#[dyn_dispatch_hint]
impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "Watch"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(Sent(SystemTime::now()));
        Ok(())
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(Sent(sent)) = bag.load::<Sent>() {
            let headers = context.response().headers();
            self.0.saw(headers.get("date"), headers.get("age").is_some(), *sent, SystemTime::now());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_says_how_far_the_clocks_are_apart() {
        let clock = Clock::default();
        assert_eq!(clock.ahead_ms(), None);
        let at = |s: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        // 2026-01-01T00:00:00Z is 1767225600.
        let date = Some("Thu, 01 Jan 2026 00:00:00 GMT");
        clock.saw(date, false, at(1_767_225_000), at(1_767_225_002));
        assert_eq!(clock.ahead_ms(), Some(599_500));
        clock.saw(date, false, at(1_767_225_900), at(1_767_225_900));
        assert_eq!(clock.ahead_ms(), Some(-299_500));
        // What says nothing changes nothing.
        clock.saw(None, false, at(0), at(0));
        clock.saw(Some("yesterday"), false, at(0), at(0));
        clock.saw(date, true, at(0), at(0));
        clock.saw(date, false, at(0), at(1_000));
        assert_eq!(clock.ahead_ms(), Some(-299_500));
        let ahead = SystemTime::now().duration_since(clock.now()).unwrap();
        assert!(ahead.as_secs() >= 299, "{ahead:?}");
    }
}
