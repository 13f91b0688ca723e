//! Telling places of alerts: webhooks and programs.

mod redact;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use self::redact::shown;
use super::command::{self, Ran};
use super::http::HttpClient;
use crate::domain::alert::{CommandPlace, Message, Place, PlaceKind, Webhook};
use crate::domain::plan::CONTROL;
use crate::domain::secret::Secret;
use crate::ports::{ErrorKind, NotTold, Notices, PortError, PortResult, Switches};

/// How long a webhook's server may take to take a connection that is only looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Tells webhooks and programs.
pub struct Notifier {
    client: HttpClient,
    /// Who finds what secret references point at.
    values: Arc<dyn Switches>,
}

impl Notifier {
    /// Tells webhooks over this client. `values` finds their addresses, anew for each message: one may be rotated.
    #[must_use]
    pub fn new(client: HttpClient, values: Arc<dyn Switches>) -> Self {
        Self { client, values }
    }

    async fn url(&self, webhook: &Webhook) -> PortResult<Secret> {
        Ok(self.values.resolve(&webhook.url, CONTROL).await?.value)
    }

    async fn webhook(&self, webhook: &Webhook, message: &Message) -> Result<String, NotTold> {
        let url = self.url(webhook).await.map_err(|e| {
            let why = format!("its address cannot be read: {}", e.came_back);
            if e.kind.transient() { NotTold::for_now(why, webhook::PAUSE) } else { NotTold::for_good(why) }
        })?;
        webhook::post(&self.client, &url, webhook, message).await
    }
}

/// Tells a program: the message is on its standard input, as JSON.
async fn program(place: &CommandPlace, message: &Message) -> Result<String, NotTold> {
    let input = serde_json::to_vec(message).map_err(|e| NotTold::for_good(e.to_string()))?;
    // Told twice it may do something twice, so it is not tried again.
    match command::run(&place.run, &input, Duration::from_millis(place.timeout_ms)).await {
        Ok(Ran { ended: Ok(()), said }) if said.is_empty() => Ok("exit status: 0".to_owned()),
        Ok(Ran { ended: Ok(()), said }) => Ok(shown(&said, &[])),
        Ok(Ran { ended: Err(why), said }) if said.is_empty() => Err(NotTold::for_good(why)),
        Ok(Ran { ended: Err(why), said }) => Err(NotTold::for_good(format!("{why}; {}", shown(&said, &[])))),
        Err(e) => Err(NotTold::for_good(e.to_string())),
    }
}

#[async_trait]
impl Notices for Notifier {
    async fn tell(&self, place: &Place, message: &Message) -> Result<String, NotTold> {
        match &place.kind {
            PlaceKind::Webhook(webhook) => self.webhook(webhook, message).await,
            PlaceKind::Command(command) => program(command, message).await,
            PlaceKind::Screen(_) => Err(NotTold::for_good("only a screen tells it")),
        }
    }

    async fn look(&self, place: &Place) -> PortResult<String> {
        match &place.kind {
            PlaceKind::Screen(_) => Ok("told by the screen, while one is open".to_owned()),
            PlaceKind::Command(command) => {
                let program = command.run.first().map_or("", String::as_str);
                command::on_the_path(program).ok_or_else(|| {
                    PortError::new(ErrorKind::NotFound, "find", format!("program {program}"), "it is not on the path")
                        .advise("install it, or write its whole path")
                })
            }
            PlaceKind::Webhook(webhook) => {
                let url = self.url(webhook).await?;
                let (host, port) = webhook::address(&url).map_err(|why| {
                    PortError::new(ErrorKind::Invalid, "read", "the webhook's address", why)
                        .advise("it must be a full URL: https://...")
                })?;
                let came = tokio::time::timeout(LOOK, tokio::net::TcpStream::connect((host, port))).await;
                let why = match came {
                    Ok(Ok(_)) => return Ok(format!("its server takes connections on port {port}; nothing was sent")),
                    Ok(Err(e)) => redact::without(&e.to_string(), &url),
                    Err(_) => format!("no connection in {} s", LOOK.as_secs()),
                };
                Err(PortError::new(ErrorKind::Unreachable, "connect to", "the webhook's server", why)
                    .advise("see whether this machine may reach it, and whether the address is right"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
