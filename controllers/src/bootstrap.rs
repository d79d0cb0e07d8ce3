//! Bootstrap tokens: what is signed with them, and their end.
//!
//! - [`signer`]: the signatures of the ConfigMap by which joining machines know their cluster.
//! - [`token_cleaner`]: tokens that have ended are deleted.
//!
//! What a token is, and what its signature is, both sides have from [`client::bootstrap_token`].

pub mod signer;
pub mod token_cleaner;

use client::bootstrap_token::{SECRET_NAMESPACE, SECRET_TYPE, TokenSecret};
use client::{Informer, Selection};

use crate::context::Context;

/// The Secrets of tokens, and no other Secret.
fn tokens(context: &Context) -> Informer<TokenSecret> {
    context.informers.selected(Selection {
        namespace: Some(SECRET_NAMESPACE.into()),
        fields: Some(format!("type={SECRET_TYPE}")),
        ..Selection::default()
    })
}

#[cfg(test)]
mod tests;
