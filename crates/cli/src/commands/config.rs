//! `skiff config show`: prints what [`skiff_node::handler`] has found out.

use skiff_node::handler::{self, Setting};

use crate::Outcome;
use crate::arguments::ConfigShow;
use crate::output::Output;

pub(crate) fn show(arguments: &ConfigShow, output: &Output) -> anyhow::Result<Outcome> {
    let found = handler::in_force(&arguments.address, &arguments.handler)?;
    let strangers: Vec<&Setting> = found.options.iter().filter(|one| !one.known).collect();
    if output.json() {
        output.document(&found)?;
    } else {
        output.text(&format!("{} ({})\n", found.handler, found.runtime_type))?;
        let row = |one: &Setting| {
            let origin = if one.known {
                one.origin.clone()
            } else {
                format!("{}: NOT KNOWN, every container is refused", one.origin)
            };
            vec![one.key.clone(), one.value.clone(), origin]
        };
        let rows: Vec<_> = found.options.iter().map(row).collect();
        output.table(&["OPTION", "VALUE", "FROM"], &rows)?;
    }
    Ok(if strangers.is_empty() {
        Outcome::Well
    } else {
        Outcome::Broken
    })
}
