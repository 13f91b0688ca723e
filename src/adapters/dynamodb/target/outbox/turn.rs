//! Whose turn it is to apply what customers wrote: one process at a time for a plan, for a limited time that it renews.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::super::call::{Stopped, Store, Tried, n, s};
use super::super::lease::CLOCKS_MS;
use super::super::names;
use super::super::write::Write;
use crate::ports::{ErrorKind, PortError, PortResult};

/// How long a turn lasts after it was last renewed. An item is given up after half of it.
const LASTS: Duration = Duration::from_secs(20);
/// A turn that was renewed this recently is not renewed again.
const FRESH: Duration = Duration::from_secs(2);

/// A turn of this process. Dropping it gives it back, unless the process dies: then it ends by itself.
pub(super) struct Turn {
    store: Arc<Store>,
    plan: Arc<str>,
    holder: String,
    /// When it was last renewed.
    renewed: Mutex<Instant>,
    over: bool,
}

fn lasts() -> i64 {
    i64::try_from(LASTS.as_millis()).unwrap_or(i64::MAX)
}

impl Turn {
    /// Takes the turn. `Throttled` while another process has it.
    pub(super) async fn take(store: &Arc<Store>, plan: &Arc<str>, (tried, on): Tried<'_>) -> PortResult<Self> {
        let (holder, began, now) = (uuid::Uuid::new_v4().simple().to_string(), Instant::now(), store.now());
        let mine = Write::update(&names::turn(plan), "SET #holder = :me, #until = :until")
            .when("attribute_not_exists(#holder) OR #holder = :none OR #until < :now")
            .with("me", s(&holder))
            .with("until", n(now.plus(lasts()).0))
            .with("none", s(""))
            .with("now", n(now.plus(-CLOCKS_MS).0));
        match store.write(&mine, (tried, on)).await {
            Ok(_) => Ok(Self {
                store: Arc::clone(store),
                plan: Arc::clone(plan),
                holder,
                renewed: Mutex::new(began),
                over: false,
            }),
            Err(Stopped::Condition(_)) => {
                Err(PortError::new(ErrorKind::Throttled, tried, on, "another process carries changes back")
                    .advise("it goes on by itself once that one has ended"))
            }
            Err(stopped) => Err(stopped.error((tried, on))),
        }
    }

    /// Renews it, and fails when it is lost.
    pub(super) async fn renew(&self, (tried, on): Tried<'_>) -> PortResult<()> {
        let mut renewed = self.renewed.lock().await;
        if renewed.elapsed() < FRESH {
            return Ok(());
        }
        let began = Instant::now();
        let mine = Write::update(&names::turn(&self.plan), "SET #until = :until")
            .when("#holder = :me")
            .with("me", s(&self.holder))
            .with("until", n(self.store.now().plus(lasts()).0));
        match self.store.write(&mine, (tried, on)).await {
            Ok(_) => {
                *renewed = began;
                Ok(())
            }
            Err(Stopped::Condition(_)) => {
                Err(PortError::new(ErrorKind::Conflict, tried, on, "another process carries changes back since")
                    .advise("nothing more was written; what waits is applied by that one"))
            }
            Err(stopped) => Err(stopped.error((tried, on))),
        }
    }

    fn end(&self) -> Write {
        Write::update(&names::turn(&self.plan), "SET #holder = :none")
            .when("#holder = :me")
            .with("me", s(&self.holder))
            .with("none", s(""))
    }

    /// Gives it back.
    pub(super) async fn give_back(mut self, at: Tried<'_>) -> PortResult<()> {
        self.over = true;
        match self.store.write(&self.end(), at).await {
            Ok(_) | Err(Stopped::Condition(_)) => Ok(()),
            Err(stopped) => Err(stopped.error(at)),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // Nobody waits for it here; what is not given back is over some seconds later.
        let (store, end) = (Arc::clone(&self.store), self.end());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = store.write(&end, ("give back the turn of carrying", "the target")).await;
            });
        }
    }
}
