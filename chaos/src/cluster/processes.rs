//! Members' processes: started, stopped, ended.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Cluster, Launch, Place};

impl Cluster {
    /// Starts a member that is down.
    ///
    /// # Errors
    ///
    /// When its process cannot be started.
    pub fn start_member(&mut self, member: usize) -> Result<()> {
        if self.places[member].child.is_some() {
            return Ok(());
        }
        let others = self.members().into_iter().filter(|at| *at != member);
        let launch = Launch {
            member,
            joins: self.places[member].joined,
            founders: self.plan.members,
            others: others.collect(),
            data: &self.data(member),
            network: &self.network,
            tls: &self.tls,
        };
        let arguments = self.plan.system.arguments(&launch)?;
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(member))?;
        let (program, before) = self.network.wrap(member, self.plan.system.binary());
        let mut command = Command::new(program);
        if let Some(library) = &self.plan.preload {
            command.env("LD_PRELOAD", library);
        }
        let child = command
            .args(before)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start member {member}"))?;
        self.places[member].child = Some(child);
        self.places[member].may_exit = false;
        Ok(())
    }

    /// Starts every member that is down.
    ///
    /// # Errors
    ///
    /// When a process cannot be started.
    pub fn start_all(&mut self) -> Result<()> {
        let members = self.members();
        members.into_iter().try_for_each(|at| self.start_member(at))
    }

    /// Starts a new member at a free place. The cluster must have been told of it.
    ///
    /// # Errors
    ///
    /// When its process cannot be started.
    pub fn join(&mut self, place: usize) -> Result<()> {
        self.make_disk(place)?;
        let joined = true;
        self.places[place] = Place {
            taken: true,
            joined,
            ..Place::default()
        };
        self.start_member(place)
    }

    /// Ends a member that the cluster has let go, with its data: its place is free again.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for, or its data cannot be removed.
    pub fn leave(&mut self, member: usize) -> Result<()> {
        self.kill(member)?;
        self.places[member] = Place::default();
        self.plan.disks.unmake(&self.data(member))
    }

    /// Cuts the power of these members at once: what they did not sync is lost.
    ///
    /// # Errors
    ///
    /// When their disks cannot do that, or do not come back.
    pub fn power_off(&mut self, members: &[usize]) -> Result<()> {
        let data: Vec<PathBuf> = members.iter().map(|at| self.data(*at)).collect();
        for dir in &data {
            self.plan.disks.freeze(dir)?;
        }
        members.iter().try_for_each(|member| self.kill(*member))?;
        data.iter().try_for_each(|dir| self.plan.disks.revive(dir))
    }

    /// `kill -9`s a member and reaps it.
    ///
    /// # Errors
    ///
    /// When it cannot be waited for.
    pub fn kill(&mut self, member: usize) -> Result<()> {
        if let Some(mut child) = self.places[member].child.take() {
            child.kill()?;
            child.wait()?;
        }
        self.places[member].paused = false;
        Ok(())
    }

    /// Stops a member's clock: SIGSTOP.
    ///
    /// # Errors
    ///
    /// When the signal cannot be sent.
    pub fn pause(&mut self, member: usize) -> Result<()> {
        self.places[member].paused = true;
        self.signal(member, Signal::SIGSTOP)
    }

    /// Lets every paused member go on.
    ///
    /// # Errors
    ///
    /// When a signal cannot be sent.
    pub fn resume_all(&mut self) -> Result<()> {
        for member in 0..self.places.len() {
            if std::mem::take(&mut self.places[member].paused) {
                self.signal(member, Signal::SIGCONT)?;
            }
        }
        Ok(())
    }

    fn signal(&self, member: usize, signal: Signal) -> Result<()> {
        if let Some(child) = &self.places[member].child {
            kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        }
        Ok(())
    }

    /// Ends a member as if it had ended by itself: a planted fault.
    ///
    /// # Errors
    ///
    /// When the signal cannot be sent, or the process cannot be waited for.
    pub fn murder(&mut self, member: usize) -> Result<()> {
        self.signal(member, Signal::SIGKILL)?;
        if let Some(child) = &mut self.places[member].child {
            child.wait()?;
        }
        Ok(())
    }
}
