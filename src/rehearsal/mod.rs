//! A world to rehearse in: embedded stores, a control-plane stand-in, and a simulated shop with an oracle of every
//! acknowledged write. It is the *other side*: it uses official clients, never the console's own adapters.

mod compare;
mod control;
mod dynamo;
mod fault;
mod metrics;
mod model;
mod oracle;
pub mod postgres;
mod seed;
mod shop;
mod sides;
mod world;

pub use control::ControlPlane;
pub use dynamo::EmbeddedDynamo;
pub use fault::{Fault, FaultError, Faults};
pub use oracle::{Comparison, Oracle};
pub use seed::Sizes;
pub use shop::{Rates, Shop};
pub use world::{PgAddress, Verdict, World, WorldError, WorldOptions};
