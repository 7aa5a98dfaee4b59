//! The operations on assignments: who may exchange an Entra token for one of the resource.
//!
//! The REST specification gives their bodies and statuses; what they refuse is a guess, listed in docs/emulator.md.
//! Called by `perform`.

use serde_json::{Value, json};

use super::assignments::{self, Full, guid, malformed};
use crate::emulator::answer::{self, Answer};
use crate::emulator::call::Call;
use crate::emulator::operation::Operation;
use crate::emulator::service::not_emulated;
use crate::emulator::shared::Shared;

/// How many assignments one page shows.
const PAGE: usize = 100;

pub(super) fn perform(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    match call.operation {
        Operation::GetTeamsExtensionAssignment => {
            let (tenant, object) = tenant_and_object(call)?;
            let state = shared.state();
            let found = state.assignments.teams(&tenant, &object).ok_or_else(not_found)?;
            Ok(answer::json(200, &found.body(&object)))
        }
        Operation::PutTeamsExtensionAssignment => {
            let (tenant, object) = tenant_and_object(call)?;
            let assignment = assignments::read_teams(call.body, tenant)?;
            let body = assignment.body(&object);
            put(shared.state().assignments.put_teams(&object, assignment), &body)
        }
        Operation::DeleteTeamsExtensionAssignment => {
            let (tenant, object) = tenant_and_object(call)?;
            shared.state().assignments.remove_teams(&tenant, &object);
            Ok(answer::no_content())
        }
        Operation::ListEntraAssignments => Ok(list(shared, call)),
        Operation::UpdateEntraAssignments => {
            let changes = assignments::read_changes(call.body)?;
            let set: Vec<Value> = changes
                .iter()
                .filter_map(|(object, change)| change.as_ref().map(|assignment| assignment.body(object)))
                .collect();
            shared.state().assignments.merge_entra(changes).map_err(|Full| super::full("assignments"))?;
            // The specification has both 200 with assignments and 204: nothing is left to show after removals alone.
            if set.is_empty() {
                return Ok(answer::no_content());
            }
            Ok(answer::json(200, &json!({ "value": set })))
        }
        Operation::GetEntraAssignment => {
            let object = object(call, 0)?;
            let state = shared.state();
            let found = state.assignments.entra(&object).ok_or_else(not_found)?;
            Ok(answer::json(200, &found.body(&object)))
        }
        Operation::PutEntraAssignment => {
            let object = object(call, 0)?;
            let assignment = assignments::read_entra(call.body)?;
            let body = assignment.body(&object);
            put(shared.state().assignments.put_entra(&object, assignment), &body)
        }
        Operation::DeleteEntraAssignment => {
            let object = object(call, 0)?;
            shared.state().assignments.remove_entra(&object);
            Ok(answer::no_content())
        }
        other => Err(Box::new(not_emulated(other))),
    }
}

fn list(shared: &Shared, call: &Call<'_>) -> Answer {
    let after = call.query("continuationToken").unwrap_or_default();
    let state = shared.state();
    let (page, more) = state.assignments.page_entra(&after, PAGE);
    let mut body = json!({
        "value": page.iter().map(|(object, assignment)| assignment.body(object)).collect::<Vec<_>>(),
    });
    if let (true, Some((last, _)), Some(body)) = (more, page.last(), body.as_object_mut()) {
        let link = format!(
            "{}/access/entra/assignments?api-version={}&continuationToken={last}",
            call.base,
            call.version.text()
        );
        body.insert("nextLink".into(), link.into());
    }
    answer::json(200, &body)
}

fn put(done: Result<bool, Full>, body: &Value) -> Result<Answer, Box<Answer>> {
    match done {
        Ok(is_new) => Ok(answer::json(if is_new { 201 } else { 200 }, body)),
        Err(Full) => Err(super::full("assignments")),
    }
}

fn tenant_and_object(call: &Call<'_>) -> Result<(String, String), Box<Answer>> {
    Ok((guid(call.parameter(0)).ok_or_else(|| malformed("TenantId"))?, object(call, 1)?))
}

fn object(call: &Call<'_>, index: usize) -> Result<String, Box<Answer>> {
    guid(call.parameter(index)).ok_or_else(|| malformed("ObjectId"))
}

fn not_found() -> Box<Answer> {
    Box::new(
        answer::error(404, "NotFound", "The assignment was not found.", Some("ObjectId")).naming_versions(),
    )
}
