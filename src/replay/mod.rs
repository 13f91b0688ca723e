//! A recorded run on a virtual clock: the same fold, the same snapshots, the same handle as a run that is live.

mod player;
mod recording;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

pub use recording::{Recording, ReplayError};

use crate::domain::run::Refusal;
use crate::engine::handle::{Handle, Playback};
use crate::journal::RunFolder;
use player::Player;

/// At most ten snapshots a second.
const TICK: Duration = Duration::from_millis(100);

/// Plays a run's folder from its first fact at `speed` times real time, and stands still at the last one.
///
/// The handle refuses commands and ignores rollback orders: nothing in a recording can be changed. The task ends
/// when every handle is gone. Must be called within a tokio runtime.
///
/// # Errors
/// A journal that cannot be trusted, holds nothing, or whose plan is missing or another one.
pub fn open(folder: &RunFolder, speed: f64) -> Result<(Handle, JoinHandle<()>), ReplayError> {
    let mut player = Player::new(Recording::load(folder)?, speed);
    let (out, snapshots) = watch::channel(Arc::new(player.snapshot()));
    let (commands, mut asked) = mpsc::channel::<crate::engine::handle::Request>(32);
    let (playback, mut asks) = mpsc::channel(32);
    let (rollback, _) = watch::channel(None);
    let operator = player.operator().to_owned();
    let handle = Handle::new(snapshots, commands, Arc::new(rollback), Some(playback), operator);
    let task = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last = Instant::now();
        loop {
            tokio::select! {
                () = out.closed() => return,
                Some(request) = asked.recv() => {
                    // The sender may be gone already.
                    let _ = request.reply.send(Err(Refusal("this is a recording".to_owned())));
                }
                Some(ask) = asks.recv() => player.ask(ask),
                _ = ticks.tick() => {
                    let now = Instant::now();
                    player.advance(now.duration_since(last));
                    last = now;
                    if player.changed() {
                        out.send_replace(Arc::new(player.snapshot()));
                    }
                }
            }
        }
    });
    Ok((handle, task))
}

impl Player {
    fn ask(&mut self, ask: Playback) {
        match ask {
            Playback::Toggle => self.toggle(),
            Playback::Faster => self.scale(2.0),
            Playback::Slower => self.scale(0.5),
            Playback::Seek(ms) => self.seek(ms),
        }
    }
}

#[cfg(test)]
mod tests;
