-- Enrollments are counted for their workspace, and go with their record.

CREATE INDEX enrollments_by_workspace ON enrollments (workspace);

CREATE INDEX enrollments_by_record ON enrollments (record);
