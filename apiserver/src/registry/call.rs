//! A request to a resource, with everything that its way through the registry needs.

use std::sync::{Mutex, PoisonError};

use api::field::FieldError;
use api::status::{Qualified, Status};
use api::values::time::{Moment, Precision};
use http::HeaderMap;
use tokio::time::Instant;

use super::row::Row;
use super::strategy::Cx;
use crate::instance::Api;
use crate::request::{Query, RequestInfo};
use crate::user::User;
use crate::validation::meta;

/// What comes of a request, or the error that the client gets.
pub type Outcome<T> = Result<T, Box<Status>>;

/// What becomes of fields that a type lacks and keys that come twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and the client is told.
    Warn,
    /// The request is refused.
    Strict,
}

/// A request to a resource.
pub struct Call<'a> {
    /// The server.
    pub api: &'a Api,
    /// The resource.
    pub row: &'a Row,
    /// What is asked for.
    pub info: &'a RequestInfo,
    /// With which parameters.
    pub query: &'a Query,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// Who asks.
    pub user: &'a User,
    /// When it must be over.
    pub deadline: Instant,
    /// When it came.
    pub moment: Moment,
    /// The same as metav1.Time writes it.
    pub now: String,
    /// Nothing is to be written.
    pub dry_run: bool,
    /// Who comes to own what the request sets.
    pub manager: String,
    /// What becomes of unknown fields.
    pub field_validation: FieldValidation,
    /// What the client is to be told besides.
    pub warnings: Mutex<Vec<String>>,
}

/// The longest part of a user agent that names a manager.
const MANAGER_BYTES_MAX: usize = 128;

impl<'a> Call<'a> {
    /// A call, its options checked.
    ///
    /// # Errors
    ///
    /// If a parameter has no meaning.
    pub fn new(
        api: &'a Api,
        row: &'a Row,
        info: &'a RequestInfo,
        query: &'a Query,
        headers: &'a HeaderMap,
        user: &'a User,
        deadline: Instant,
    ) -> Outcome<Self> {
        let moment = api.moment();
        let mut call = Self {
            api,
            row,
            info,
            query,
            headers,
            user,
            deadline,
            moment,
            now: moment.text(Precision::Seconds),
            dry_run: false,
            manager: manager(query, headers),
            field_validation: FieldValidation::Warn,
            warnings: Mutex::default(),
        };
        if !matches!(&*info.verb, "get" | "list" | "watch") && !info.is_handed_on() {
            call.read_options()?;
        }
        Ok(call)
    }

    fn read_options(&mut self) -> Outcome<()> {
        let mut errors = Vec::new();
        for value in self.query.all("dryRun") {
            if value == "All" {
                self.dry_run = true;
            } else if !value.is_empty() {
                errors.push(FieldError::not_supported("dryRun", value, &["All"]));
            }
        }
        if let Some(manager) = self.query.get("fieldManager") {
            errors.extend(meta::field_manager("fieldManager", manager));
        }
        match self.query.text("fieldValidation") {
            "" | "Warn" => {}
            "Ignore" => self.field_validation = FieldValidation::Ignore,
            "Strict" => self.field_validation = FieldValidation::Strict,
            other => {
                let known = ["Ignore", "Strict", "Warn"];
                errors.push(FieldError::not_supported("fieldValidation", other, &known));
            }
        }
        if errors.is_empty() {
            return Ok(());
        }
        let kind = match &*self.info.verb {
            "create" => "CreateOptions",
            "patch" => "PatchOptions",
            "update" => "UpdateOptions",
            _ => "DeleteOptions",
        };
        Err(invalid_options(kind, &errors))
    }

    /// The resource as errors name it.
    pub fn of(&self) -> Qualified<'static> {
        self.row.qualified()
    }

    /// The namespace that the object stands in, empty for those of the cluster. Requests to a namespace
    /// itself name it as theirs, as authorization wants it.
    pub fn namespace(&self) -> &str {
        match self.row.resource.namespaced {
            true => &self.info.namespace,
            false => "",
        }
    }

    /// What strategies get to know.
    pub fn cx(&self) -> Cx<'_> {
        Cx {
            user: self.user,
            subresource: &self.info.subresource,
            now: &self.now,
            objects: &*self.api.storage,
        }
    }

    /// Tells the client something besides.
    pub fn warn(&self, text: impl Into<String>) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        let text = text.into();
        if !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// The scope of the resource's metadata.
    pub fn scope(&self) -> meta::Scope {
        meta::Scope {
            namespaced: self.row.resource.namespaced,
            built_in: true,
        }
    }
}

/// The error about parameters.
pub fn invalid_options(kind: &str, errors: &[FieldError]) -> Box<Status> {
    let of = Qualified {
        group: "meta.k8s.io",
        name: kind,
    };
    Box::new(Status::invalid(of, "", errors))
}

fn manager(query: &Query, headers: &HeaderMap) -> String {
    if let Some(manager) = query.get("fieldManager").filter(|name| !name.is_empty()) {
        return manager.to_string();
    }
    let agent = headers.get(http::header::USER_AGENT);
    let agent = agent
        .and_then(|agent| agent.to_str().ok())
        .unwrap_or_default();
    let name = agent.split('/').next().unwrap_or_default();
    let printable = name.chars().filter(|c| !c.is_control());
    let mut name: String = printable.collect();
    while name.len() > MANAGER_BYTES_MAX {
        name.pop();
    }
    name
}
