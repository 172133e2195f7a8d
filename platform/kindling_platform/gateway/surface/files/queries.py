"""The statements of files: whoever asks names the organisation they belong to."""

OPEN = """
    INSERT INTO batches_storedfile
        (id, organisation_id, key_id, filename, purpose, size_bytes, is_complete, created_at, expires_at)
    VALUES (%(id)s, %(org)s, %(key)s, '', %(purpose)s, %(size)s, false, now(),
        now() + make_interval(secs => %(kept_s)s))
"""
PUT_PART = "INSERT INTO batches_filepart (file_id, number, sealed) VALUES (%(id)s, %(number)s, %(sealed)s)"
COMPLETE = """
    UPDATE batches_storedfile SET filename = %(filename)s, purpose = %(purpose)s, size_bytes = %(size)s,
        is_complete = %(visible)s, expires_at = created_at + make_interval(secs => %(kept_s)s)
    WHERE id = %(id)s AND organisation_id = %(org)s
    RETURNING id, organisation_id, filename, purpose, size_bytes, created_at, expires_at
"""
READ = """
    SELECT id, organisation_id, filename, purpose, size_bytes, created_at, expires_at FROM batches_storedfile
    WHERE id = %(id)s AND organisation_id = %(org)s AND is_complete AND expires_at > now()
"""
PART = "SELECT sealed FROM batches_filepart WHERE file_id = %(id)s AND number = %(number)s"
NEWEST = """
    SELECT id, organisation_id, filename, purpose, size_bytes, created_at, expires_at FROM batches_storedfile
    WHERE organisation_id = %(org)s AND is_complete AND expires_at > now()
        AND (%(purpose)s = '' OR purpose = %(purpose)s) AND (%(after)s = '' OR id < %(after)s)
    ORDER BY id DESC LIMIT %(limit)s
"""
OLDEST = """
    SELECT id, organisation_id, filename, purpose, size_bytes, created_at, expires_at FROM batches_storedfile
    WHERE organisation_id = %(org)s AND is_complete AND expires_at > now()
        AND (%(purpose)s = '' OR purpose = %(purpose)s) AND (%(after)s = '' OR id > %(after)s)
    ORDER BY id ASC LIMIT %(limit)s
"""
# Of an upload that is not over: as many bytes as it may come to. One that is older than any may get has died.
HELD = """
    SELECT coalesce(sum(size_bytes), 0)::bigint AS bytes,
        count(*) FILTER (
            WHERE NOT is_complete AND purpose = %(sent)s AND created_at > now() - make_interval(secs => %(upload_s)s)
        ) AS uploads
    FROM batches_storedfile WHERE organisation_id = %(org)s
"""
# Whoever makes a batch writes the file's row first. If that happens behind this statement's snapshot, where the batch
# cannot be seen, the row is another than `seen` by the time that it could be deleted, and stays.
DELETE = """
    WITH theirs AS (
        SELECT id, xmin AS seen FROM batches_storedfile
        WHERE id = %(id)s AND organisation_id = %(org)s AND is_complete AND expires_at > now() AND NOT EXISTS (
            SELECT 1 FROM batches_batch WHERE organisation_id = %(org)s AND input_file_id = %(id)s
            AND status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
        )
    ), gone AS (
        DELETE FROM batches_storedfile file USING theirs
        WHERE file.id = theirs.id AND file.xmin = theirs.seen RETURNING file.id
    ), parts AS (DELETE FROM batches_filepart WHERE file_id IN (SELECT id FROM gone))
    SELECT id FROM gone
"""
DROP = """
    WITH theirs AS (SELECT id FROM batches_storedfile WHERE id = %(id)s AND organisation_id = %(org)s),
        parts AS (DELETE FROM batches_filepart WHERE file_id IN (SELECT id FROM theirs))
    DELETE FROM batches_storedfile WHERE id IN (SELECT id FROM theirs) RETURNING id
"""
