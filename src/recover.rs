//! `trireme recover`: what is left after the loss of a quorum becomes a new cluster.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Result, bail};
use raft_store::backup::recover::{Recovered, Shape, execute, plan};
use raft_store::backup::restore::parse_initial_cluster;
use seams::Seams;

use crate::backup::{directories, progress};
use crate::cli::RecoverArguments;
use crate::output::say;

/// Shows where the members stand, asks, and acts.
pub(crate) async fn run(arguments: RecoverArguments) -> Result<()> {
    let seams = Seams::real();
    let files = directories(&seams);
    let shape = Shape {
        cluster: match &arguments.initial_cluster {
            Some(text) => parse_initial_cluster(text)?,
            None => Vec::new(),
        },
        token: arguments.initial_cluster_token,
        revision_bump: arguments.bump_revision,
    };
    let plan = plan(&arguments.dirs, &seams, &*files.format, &files)?;
    say(&plan.to_string());
    if arguments.dry_run {
        return Ok(());
    }
    if !arguments.yes && !agreed(io::stdin().lock(), io::stdin().is_terminal())? {
        bail!("nothing was done");
    }
    let dir = plan.candidates[plan.chosen].dir.clone();
    let done = execute(
        plan,
        &shape,
        &seams,
        &*files.format,
        &files,
        &files,
        &mut progress(),
    )?;
    let Recovered {
        identity,
        revision,
        backup,
        summary,
        aside,
    } = done;
    say(&format!(
        "\n{} is member {} ({:016x}) of the new cluster {:016x} now, with {} keys, at revision {revision}.\n\
         The state that was taken over: {}\n\
         The old files: {}\n\
         Start it with `trireme store`; other members join with empty disks by --join{}.",
        dir.display(),
        identity.name,
        identity.member_id,
        identity.cluster_id,
        summary.keys,
        backup.display(),
        aside.display(),
        if shape.cluster.len() > 1 {
            ", or are restored from that file"
        } else {
            ""
        },
    ));
    Ok(())
}

/// Only a person at a terminal can agree by typing.
fn agreed(mut input: impl BufRead, is_terminal: bool) -> Result<bool> {
    if !is_terminal {
        bail!("nobody can be asked here: look at the plan above, then add --yes");
    }
    let _ = write!(io::stderr(), "\nType `recover` to go on: ");
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(line.trim() == "recover")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_word_at_a_terminal_agrees() {
        assert!(agreed("recover\n".as_bytes(), true).unwrap());
        assert!(!agreed("y\n".as_bytes(), true).unwrap());
        assert!(!agreed("".as_bytes(), true).unwrap());
        assert!(
            agreed("recover\n".as_bytes(), false)
                .unwrap_err()
                .to_string()
                .contains("--yes")
        );
    }
}
