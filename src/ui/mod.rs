//! TEMP
#![allow(missing_docs)]
pub struct UiOptions;
impl UiOptions { pub fn from_terminal(_c: Option<bool>, _a: bool, _f: u16) -> Self { Self } }
pub enum UiExit { Quit, TerminalGone, Finished, Terminated }
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct UiError;
pub async fn run(_h: crate::engine::handle::Handle, _o: UiOptions) -> Result<UiExit, UiError> { Ok(UiExit::Quit) }
