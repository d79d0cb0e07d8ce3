//! Tokens from a file: a line each, `token,user,uid,"group1,group2"`.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Found, Identity, TokenCheck};
use crate::user::User;

/// Users by their tokens.
#[derive(Clone)]
pub struct StaticTokens {
    users: Arc<HashMap<String, User>>,
}

impl StaticTokens {
    /// Reads a token file; `path` is for errors only.
    ///
    /// # Errors
    ///
    /// If a line has fewer than three columns or its quotes are wrong.
    pub fn parse(text: &str, path: &str) -> Result<Self, String> {
        let mut users = HashMap::new();
        for (at, record) in records(text)?.into_iter().enumerate() {
            let [token, name, uid, rest @ ..] = &record[..] else {
                return Err(format!(
                    "token file '{path}' must have at least 3 columns (token, user name, user uid), \
                     found {}",
                    record.len()
                ));
            };
            if token.is_empty() {
                let record = at + 1;
                tracing::warn!(path, record, "empty token in token file");
                continue;
            }
            let groups = rest.first().map(|groups| groups.split(','));
            let user = User {
                name: name.clone(),
                uid: uid.clone(),
                groups: groups.into_iter().flatten().map(str::to_string).collect(),
                ..User::default()
            };
            users.insert(token.clone(), user);
        }
        Ok(Self {
            users: Arc::new(users),
        })
    }
}

#[async_trait]
impl TokenCheck for StaticTokens {
    async fn check(&self, token: &str, _audiences: &[String]) -> Found {
        Ok(self.users.get(token).cloned().map(Identity::of))
    }
}

/// The records of a file of comma-separated values; a quoted value may hold commas, newlines and
/// doubled quotes. Empty lines are no records.
fn records(text: &str) -> Result<Vec<Vec<String>>, String> {
    let text = text.replace("\r\n", "\n");
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut is_quoted, mut was_quoted) = (false, false);
    let mut chars = text.chars().chain(['\n']).peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' if is_quoted => is_quoted = false,
            c if is_quoted => field.push(c),
            '"' if field.is_empty() && !was_quoted => (is_quoted, was_quoted) = (true, true),
            '"' => return Err("bare \" in non-quoted field".to_string()),
            ',' => {
                record.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            '\n' => {
                if !record.is_empty() || !field.is_empty() || was_quoted {
                    record.push(std::mem::take(&mut field));
                    records.push(std::mem::take(&mut record));
                }
                was_quoted = false;
            }
            _ if was_quoted => return Err("extraneous or missing \" in quoted-field".to_string()),
            c => field.push(c),
        }
    }
    match is_quoted {
        true => Err("extraneous or missing \" in quoted-field".to_string()),
        false => Ok(records),
    }
}
