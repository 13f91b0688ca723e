//! `cutover alerts`: which alerts a config has, where they go, and whether they arrive.

use clap::Args;
use serde_json::json;

use super::args::ConfigArg;
use super::drive::print;
use super::exit::Exit;
use super::failure::Failure;
use super::listing::Over;
use super::world::{self, Driver};
use crate::config::Config;
use crate::domain::alert::{Alert, Message, Place, Told};
use crate::domain::at::brief;
use crate::engine::MachineClock;
use crate::ports::{Clock, NotTold, Notices};
use crate::workers::CheckRow;

/// Which alerts are listed or tried.
#[derive(Debug, Args)]
pub struct AlertsArgs {
    #[command(flatten)]
    pub config: ConfigArg,
    /// Send one message, marked as a trial, to each place, and say what came back; of this alert only, when one is named.
    #[arg(long = "try", value_name = "ALERT", num_args = 0..=1, default_missing_value = "")]
    pub trial: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `cutover alerts`.
pub async fn alerts(args: &AlertsArgs) -> Result<Exit, Failure> {
    let (config, _) = super::run::load(&args.config, Over::Now).await?;
    let alerts = &config.telling.alerts;
    let wanted = args.trial.as_deref().filter(|id| !id.is_empty());
    if let Some(id) = wanted
        && alerts.iter().all(|alert| alert.id != id)
    {
        let near = super::nearest(id, alerts.iter().map(|alert| alert.id.as_str()));
        let near = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        return Err(Failure::new(Exit::Usage, format!("--try {id}: the config has no such alert{near}")));
    }
    if alerts.is_empty() && !args.json {
        print("the config has no [[alerts]]: nobody is told of anything\n");
        return Ok(Exit::Finished);
    }
    let notices = world::notices(alerts, &config.connections).await?;
    let (mut all, mut failed) = (Vec::new(), 0);
    for alert in alerts.iter().filter(|alert| wanted.is_none_or(|id| alert.id == id)) {
        if !args.json {
            print(&format!("{}  {}\n", alert.id, is_for(alert)));
        }
        for place in &alert.places {
            let told = match (&notices, &args.trial) {
                (Some(notices), Some(_)) if !place.is_screen() => Some(trial(&**notices, &config, alert, place).await),
                _ => None,
            };
            failed += usize::from(matches!(told, Some(Told::Failed { .. })));
            if args.json {
                all.push(json!({ "alert": alert.id, "is_for": is_for(alert), "place": place.name, "told": told }));
                continue;
            }
            let said = match (&told, &args.trial) {
                (Some(told), _) => told.words(),
                (None, Some(_)) => "not tried: only a screen tells it".to_owned(),
                (None, None) => String::new(),
            };
            print(format!("    {:<34} {said}", place.name).trim_end());
            print("\n");
        }
    }
    if args.json {
        print(&format!("{}\n", serde_json::Value::Array(all)));
    }
    Ok(if failed == 0 { Exit::Finished } else { Exit::Unexpected })
}

/// Sends one message that says it is a trial, once.
async fn trial(notices: &dyn Notices, config: &Config, alert: &Alert, place: &Place) -> Told {
    let plan = &config.plan;
    let at = MachineClock::default().wall();
    let driver = Driver::here();
    let message = Message {
        id: format!("trial/{}/{}", alert.id, at.0),
        alert: alert.id.clone(),
        about: "trial".to_owned(),
        text: format!("alert {} was tried; nothing is the matter.", alert.id),
        at,
        time: at.rfc3339(),
        plan: plan.name.clone(),
        environment: plan.environment.clone(),
        production: plan.production,
        driver: format!("{}@{}", driver.operator, driver.host),
        trial: true,
        ..Message::default()
    };
    match notices.tell(place, &message).await {
        Ok(answer) => Told::Delivered { answer },
        Err(NotTold { why, .. }) => Told::Failed { error: why },
    }
}

/// What an alert is for, on one line.
fn is_for(alert: &Alert) -> String {
    let on = alert.on.iter().map(|on| on.name().to_owned());
    let hold = if alert.for_ms > 0 { format!(" for {}", brief(alert.for_ms)) } else { String::new() };
    let thresholds = alert.thresholds.iter().map(|threshold| format!("{}{hold}", threshold.text));
    on.chain(thresholds).collect::<Vec<_>>().join(", ")
}

/// What `cutover check` finds of places, without telling any of them anything.
///
/// # Errors
/// The machine's certificates cannot be read.
pub async fn check(config: &Config) -> Result<Vec<CheckRow>, Failure> {
    let alerts = &config.telling.alerts;
    let mut rows = Vec::new();
    if let Some(at) = config.telling.metrics {
        rows.push(match tokio::net::TcpListener::bind(at).await {
            Ok(_) => CheckRow::ok("metrics", format!("{at} can be listened on")),
            Err(e) => CheckRow::bad("metrics", super::metrics::taken(at, &e), "or leave it out of the config"),
        });
    }
    let Some(notices) = world::notices(alerts, &config.connections).await? else { return Ok(rows) };
    for (n, alert) in alerts.iter().enumerate() {
        for place in alert.places.iter().filter(|place| !place.is_screen()) {
            let what = format!("alert {}, {}", alert.id, place.name);
            let row = match notices.look(place).await {
                Ok(found) => CheckRow::ok(what, found),
                Err(e) => CheckRow::bad(what, format!("{} {}: {}", e.tried, e.on, e.came_back), e.advice),
            };
            rows.push(CheckRow { path: format!("alerts[{n}]"), ..row });
        }
    }
    Ok(rows)
}
