//! placeholder
use crate::peer::{Broken, Peer};
use crate::tree::Tree;
use farwire_protocol::failure::Failure;
use farwire_protocol::streams::files::Http;
use std::sync::Arc;
#[derive(Debug, Default)]
pub struct Locks;
#[derive(Debug)]
pub struct Dav;
impl Dav {
    pub fn new(_: Arc<Tree>, _: Arc<Locks>, _: &str, _: bool) -> Result<Self, Failure> {
        Ok(Self)
    }
    pub fn serve(&self, _: &Http, _: &mut dyn Peer) -> Result<(), Broken> {
        Err(Broken)
    }
}
