//! Who may exchange an Entra token for one of the resource: the assignments, and the bodies that set them.
//!
//! Pure data, bounded in number and size; `State` holds it. Ids are GUIDs and compare without case. Used by `access`
//! and `exchange`.

use std::collections::BTreeMap;
use std::ops::Bound;

use serde_json::{Map, Value, json};

use super::wire;
use crate::emulator::answer::Answer;

/// How many assignments of each kind are held.
const MOST: usize = 1000;
/// How many clients an assignment may name.
const MOST_CLIENTS: usize = 100;

/// No room for another assignment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What is assigned to a user, a resource account, a group or a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) principal: &'static str,
    /// The tenant an Entra assignment is for. A Teams one has it in its key.
    pub(super) tenant: String,
    /// The applications it is for; none named: see `allows`.
    pub(super) clients: Option<Vec<String>>,
}

impl Assignment {
    /// Whether it lets a token of this application be exchanged. Where clients may be left out, that means any.
    pub(super) fn allows(&self, client: &str) -> bool {
        self.clients.as_ref().is_none_or(|clients| clients.iter().any(|known| known == client))
    }

    /// As answers show it.
    pub(super) fn body(&self, object: &str) -> Value {
        let mut body = json!({
            "objectId": object,
            "tenantId": self.tenant,
            "principalType": self.principal,
        });
        if let (Some(clients), Some(body)) = (&self.clients, body.as_object_mut()) {
            body.insert("clientIds".into(), json!(clients));
        }
        body
    }
}

/// The assignments of the resource.
#[derive(Debug, Default)]
pub(super) struct Assignments {
    /// By tenant and object.
    teams: BTreeMap<(String, String), Assignment>,
    /// By object.
    entra: BTreeMap<String, Assignment>,
}

impl Assignments {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn teams(&self, tenant: &str, object: &str) -> Option<&Assignment> {
        self.teams.get(&(tenant.to_owned(), object.to_owned()))
    }

    /// Sets one; true if it is new.
    pub(super) fn put_teams(&mut self, object: &str, assignment: Assignment) -> Result<bool, Full> {
        let key = (assignment.tenant.clone(), object.to_owned());
        if self.teams.len() >= MOST && !self.teams.contains_key(&key) {
            return Err(Full);
        }
        Ok(self.teams.insert(key, assignment).is_none())
    }

    pub(super) fn remove_teams(&mut self, tenant: &str, object: &str) {
        self.teams.remove(&(tenant.to_owned(), object.to_owned()));
    }

    pub(super) fn entra(&self, object: &str) -> Option<&Assignment> {
        self.entra.get(object)
    }

    /// Sets one; true if it is new.
    pub(super) fn put_entra(&mut self, object: &str, assignment: Assignment) -> Result<bool, Full> {
        if self.entra.len() >= MOST && !self.entra.contains_key(object) {
            return Err(Full);
        }
        Ok(self.entra.insert(object.to_owned(), assignment).is_none())
    }

    pub(super) fn remove_entra(&mut self, object: &str) {
        self.entra.remove(object);
    }

    /// Carries out all changes or none. Nothing stands for removal.
    pub(super) fn merge_entra(&mut self, changes: Vec<(String, Option<Assignment>)>) -> Result<(), Full> {
        let mut merged = self.entra.clone();
        for (object, change) in changes {
            match change {
                Some(assignment) => merged.insert(object, assignment),
                None => merged.remove(&object),
            };
        }
        if merged.len() > MOST && merged.len() > self.entra.len() {
            return Err(Full);
        }
        self.entra = merged;
        Ok(())
    }

    /// A page of them by object id, from the one after `after`; and whether there are more.
    pub(super) fn page_entra(&self, after: &str, size: usize) -> (Vec<(&String, &Assignment)>, bool) {
        let mut rest = self.entra.range::<str, _>((Bound::Excluded(after), Bound::Unbounded));
        let page: Vec<_> = rest.by_ref().take(size).collect();
        (page, rest.next().is_some())
    }
}

/// A GUID in lower case; ids of Entra are that, and compare without case.
pub(super) fn guid(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    super::state::is_guid(&lower).then_some(lower)
}

/// Reads the body of a Teams-extension assignment for a tenant.
pub(super) fn read_teams(body: &[u8], tenant: String) -> Result<Assignment, Box<Answer>> {
    let body = read(body)?;
    let principal = principal(&body, &["resourceAccount", "user"])?;
    Ok(Assignment { principal, tenant, clients: clients(&body)? })
}

/// Reads the body of an Entra assignment.
pub(super) fn read_entra(body: &[u8]) -> Result<Assignment, Box<Answer>> {
    entra_from(&read(body)?)
}

/// Reads a merge patch of Entra assignments: by object id, what to set, or null to remove.
pub(super) fn read_changes(body: &[u8]) -> Result<Vec<(String, Option<Assignment>)>, Box<Answer>> {
    let mut changes = Vec::new();
    for (object, change) in &read(body)? {
        let object = guid(object).ok_or_else(|| malformed("ObjectId"))?;
        let assignment = match change {
            Value::Null => None,
            Value::Object(body) => Some(entra_from(body)?),
            _ => return Err(wire::invalid(Some("ObjectId"), "ObjectId: The value is not an assignment.")),
        };
        changes.push((object, assignment));
    }
    Ok(changes)
}

/// The refusal of an id that is no GUID.
pub(super) fn malformed(name: &str) -> Box<Answer> {
    wire::invalid(Some(name), &format!("{name}: The value is not a valid GUID."))
}

fn entra_from(body: &Map<String, Value>) -> Result<Assignment, Box<Answer>> {
    let principal = principal(body, &["user", "group", "tenant"])?;
    let tenant = wire::property(body, "tenantId").ok_or_else(|| wire::required("TenantId"))?;
    let tenant = tenant.as_str().and_then(guid).ok_or_else(|| malformed("TenantId"))?;
    let clients = clients(body)?.ok_or_else(|| wire::required("ClientIds"))?;
    Ok(Assignment { principal, tenant, clients: Some(clients) })
}

fn read(body: &[u8]) -> Result<Map<String, Value>, Box<Answer>> {
    if body.is_empty() {
        return Err(wire::invalid(None, wire::NO_BODY));
    }
    wire::object(body)
}

fn principal(body: &Map<String, Value>, known: &[&'static str]) -> Result<&'static str, Box<Answer>> {
    let value = wire::property(body, "principalType").ok_or_else(|| wire::required("PrincipalType"))?;
    known.iter().copied().find(|name| value.as_str() == Some(*name)).ok_or_else(|| {
        let message = "PrincipalType: The value is not one of the supported principal types.";
        wire::invalid(Some("PrincipalType"), message)
    })
}

fn clients(body: &Map<String, Value>) -> Result<Option<Vec<String>>, Box<Answer>> {
    let Some(value) = wire::property(body, "clientIds") else { return Ok(None) };
    let refuse =
        || wire::invalid(Some("ClientIds"), "ClientIds: The value is not an array of at most 100 GUIDs.");
    let items = value.as_array().filter(|items| items.len() <= MOST_CLIENTS).ok_or_else(refuse)?;
    let ids = items.iter().map(|item| item.as_str().and_then(guid).ok_or_else(refuse));
    ids.collect::<Result<Vec<_>, _>>().map(Some)
}

#[cfg(test)]
#[path = "assignments_tests.rs"]
mod tests;
