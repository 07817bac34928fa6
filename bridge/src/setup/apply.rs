//! Applies a setup: reads the documents, decides how each is to change, and writes those that do.

use std::path::PathBuf;
use std::time::Duration;

use farwire_protocol::failure::{Failure, Kind};
use serde_json::Value;

use super::arguments::Scope;
use super::client::{Client, Document, ExistingEntry, Fault};
use super::entry::{self, Job};
use super::file::ConfigFile;
use super::report::{Changed, SetupReport, SetupStatus};
use super::verify;

/// One client and its documents.
pub(crate) struct Setup<'a> {
    pub(crate) client: &'a dyn Client,
    pub(crate) documents: Vec<Box<dyn Document + 'a>>,
    pub(crate) job: &'a Job<'a>,
}

/// A document whose file has been read, and its planned change.
struct DocumentPlan<'a> {
    document: &'a dyn Document,
    file: ConfigFile,
    found: ExistingEntry,
    new: String,
    changes: bool,
}

impl Setup<'_> {
    /// Shows what would be written to a file that does not exist.
    pub(crate) fn print(&self) -> Result<SetupReport, Failure> {
        let document = self.documents.first().ok_or_else(no_document)?.as_ref();
        let snippet = document.install("").map_err(|fault| configuration(document, "", &fault))?;
        let mut report = self.report(SetupStatus::Printed, document);
        if let Ok(ExistingEntry::Ours(entry)) = document.existing_entry(&snippet) {
            report.entry = Some(entry::redact(&entry));
        }
        report.snippet = snippet;
        Ok(report)
    }

    /// Adds everything of ours to the files, and tries the entry out if that was asked for.
    pub(crate) fn install(&self) -> Result<SetupReport, Failure> {
        let args = self.job.args;
        let mut plans = self.plan(|document, text| document.install(text))?;
        if plans.first().is_some_and(|main| matches!(main.found, ExistingEntry::Ours(_)))
            && !args.approve
        {
            // Permissions come with a new entry, or when they are asked for. A repair does not give
            // back what a user has removed.
            plans.truncate(1);
        }
        let main = plans.first().ok_or_else(no_document)?;
        let changes = plans.iter().any(|plan| plan.changes);
        let only_look = args.verify && !args.approve && !args.force;
        let status = match &main.found {
            ExistingEntry::Foreign(entry) if !args.force => return Ok(self.conflict(main, entry)),
            ExistingEntry::Absent | ExistingEntry::Foreign(_) => SetupStatus::Installed,
            ExistingEntry::Ours(_) if !changes => SetupStatus::AlreadyConfigured,
            ExistingEntry::Ours(_) if only_look => SetupStatus::Outdated,
            ExistingEntry::Ours(_) => SetupStatus::Repaired,
        };
        let mut report = self.report(status, main.document);
        let writes = matches!(status, SetupStatus::Installed | SetupStatus::Repaired);
        for plan in plans.iter().filter(|plan| writes && plan.changes) {
            let backup = plan.file.replace(&plan.new, self.private())?;
            note(&mut report, plan, backup);
        }
        let text = if writes { &main.new } else { main.file.text()? };
        let Ok(ExistingEntry::Ours(entry)) = main.document.existing_entry(text) else {
            return Err(Failure::new(Kind::Internal, "the entry cannot be read back"));
        };
        report.entry = Some(entry::redact(&entry));
        if args.verify {
            report.verify = Some(self.verify(&entry));
        }
        Ok(report)
    }

    /// Removes everything of ours from the files.
    pub(crate) fn remove(&self) -> Result<SetupReport, Failure> {
        let plans = self.plan(|document, text| document.remove(text))?;
        let main = plans.first().ok_or_else(no_document)?;
        let mut report = self.report(SetupStatus::NotConfigured, main.document);
        match &main.found {
            ExistingEntry::Foreign(entry) if !self.job.args.force => {
                return Ok(self.conflict(main, entry));
            }
            ExistingEntry::Ours(entry) | ExistingEntry::Foreign(entry) => {
                report.entry = Some(entry::redact(entry));
            }
            ExistingEntry::Absent => {}
        }
        for plan in plans.iter().filter(|plan| plan.changes) {
            report.status = SetupStatus::Removed;
            let backup = self.take_back(plan)?;
            note(&mut report, plan, backup);
        }
        Ok(report)
    }

    fn plan<'a>(
        &'a self,
        edit: impl Fn(&dyn Document, &str) -> Result<String, Fault>,
    ) -> Result<Vec<DocumentPlan<'a>>, Failure> {
        let documents = self.documents.iter().map(AsRef::as_ref);
        let plan = |document: &'a dyn Document| {
            let file = ConfigFile::read(document.path(), document.limit())?;
            let text = file.text()?;
            let failed = |fault| configuration(document, text, &fault);
            let found = document.existing_entry(text).map_err(failed)?;
            let new = edit(document, text).map_err(failed)?;
            let changes = new != text;
            Ok(DocumentPlan { document, found, new, changes, file })
        };
        documents.map(plan).collect()
    }

    fn verify(&self, entry: &Value) -> verify::Verified {
        let tools: Vec<_> = self.job.context.tools.iter().map(|tool| tool.name).collect();
        match self.client.launch(entry, self.job.context) {
            Ok(launch) => verify::check(&launch, &tools, VERIFY_LIMIT),
            Err(problem) => problem.into(),
        }
    }

    fn report(&self, status: SetupStatus, document: &dyn Document) -> SetupReport {
        SetupReport {
            client: self.client.name(),
            status,
            file: document.path().to_owned(),
            entry: None,
            backup: None,
            also: Vec::new(),
            verify: None,
            snippet: String::new(),
            owner: String::new(),
            name: self.job.args.name.clone(),
            next: self.client.next(self.job.args.scope).to_owned(),
        }
    }

    fn conflict(&self, plan: &DocumentPlan<'_>, entry: &Value) -> SetupReport {
        let mut report = self.report(SetupStatus::Conflict, plan.document);
        report.owner = entry::described(entry);
        report
    }

    /// Whether new files are readable only by their owner; those of a project are for everybody in
    /// it.
    fn private(&self) -> bool {
        self.job.args.scope == Scope::User
    }

    /// Writes the text without our entry, or restores the backup where that is equivalent.
    fn take_back(&self, plan: &DocumentPlan<'_>) -> Result<Option<PathBuf>, Failure> {
        let DocumentPlan { document, file, new, .. } = plan;
        let tidy = |text: &str| {
            document.tidy(text).map_err(|fault| configuration(*document, text, &fault))
        };
        let backup = file.backup_text();
        // What the backup holds, with and without us.
        let before = match &backup {
            Some(text) => document.remove(text).map(|without| (text, without)).ok(),
            None => None,
        };
        let pristine = before.as_ref().is_some_and(|(text, without)| *text == without);
        if let Some((text, _)) = before.as_ref().filter(|_| pristine)
            && document.same(&tidy(text)?, &tidy(new)?)
        {
            return file.restore(text).map(|()| None);
        }
        let only_ours = |(_, without): &(&String, String)| !pristine && document.blank(without);
        let we_made_it = backup.is_none() || before.as_ref().is_some_and(only_ours);
        if we_made_it && document.blank(new) {
            return file.delete().map(|()| None);
        }
        file.replace(new, self.private())
    }
}

fn note(report: &mut SetupReport, plan: &DocumentPlan<'_>, backup: Option<PathBuf>) {
    if plan.document.path() == report.file {
        report.backup = backup;
        return;
    }
    let (file, what) = (plan.document.path().to_owned(), plan.document.what());
    report.also.push(Changed { file, what, backup });
}

/// A fault in a text, with the file and the line.
fn configuration(document: &dyn Document, text: &str, fault: &Fault) -> Failure {
    let before = text.get(..fault.at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let file = document.path().display();
    Failure::new(
        Kind::Configuration,
        format!("`{file}` line {line}, column {column}: {}", fault.message),
    )
}

fn no_document() -> Failure {
    Failure::new(Kind::Internal, "the client has no configuration file")
}

/// Longer than our server takes to start on a busy machine, and shorter than a client's patience.
const VERIFY_LIMIT: Duration = Duration::from_secs(10);
