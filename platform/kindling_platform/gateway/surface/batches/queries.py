"""The statements of batches. Whoever works on one names its lease, and changes nothing without it."""

# Its file stays for as long as the batch may want it.
INSERT = """
    WITH kept AS (
        UPDATE batches_storedfile SET expires_at = greatest(expires_at, now() + make_interval(secs => %(kept_s)s))
        WHERE id = %(file)s AND organisation_id = %(org)s::varchar RETURNING id
    )
    INSERT INTO batches_batch (id, organisation_id, key_id, key_digest, endpoint, input_file_id, output_file_id,
        error_file_id, model_name, metadata, output_s, status, waits_for, total, completed, failed, prompt_tokens,
        cached_tokens, completion_tokens, reasoning_tokens, stored_bytes, due_at, created_at, expires_at)
    SELECT %(id)s, %(org)s::varchar, %(key)s, %(digest)s, %(endpoint)s, %(file)s, '', '', '', %(metadata)s,
        %(output_s)s, 'validating', '', %(total)s, 0, 0, 0, 0, 0, 0, 0,
        now(), now(), now() + make_interval(secs => %(window_s)s)
    FROM kept WHERE %(most)s > (
        SELECT count(*) FROM batches_batch WHERE organisation_id = %(org)s::varchar
        AND status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
    )
    RETURNING *
"""
READ = """
    SELECT * FROM batches_batch WHERE id = %(id)s AND organisation_id = %(org)s
        AND (%(endpoint)s = '' OR endpoint = %(endpoint)s)
"""
NEWEST = """
    SELECT * FROM batches_batch WHERE organisation_id = %(org)s AND (%(after)s = '' OR id < %(after)s)
        AND (%(endpoint)s = '' OR endpoint = %(endpoint)s)
    ORDER BY id DESC LIMIT %(limit)s
"""
OLDEST = """
    SELECT * FROM batches_batch WHERE organisation_id = %(org)s AND (%(after)s = '' OR id > %(after)s)
        AND (%(endpoint)s = '' OR endpoint = %(endpoint)s)
    ORDER BY id ASC LIMIT %(limit)s
"""
# With results that whoever ended it has not come to forget.
DELETE = """
    WITH over AS (
        SELECT id FROM batches_batch WHERE id = %(id)s AND organisation_id = %(org)s AND ended_at IS NOT NULL
    ), results AS (DELETE FROM batches_batchresult WHERE batch_id IN (SELECT id FROM over))
    DELETE FROM batches_batch WHERE id IN (SELECT id FROM over) RETURNING *
"""
CANCEL = """
    UPDATE batches_batch SET status = 'cancelling', cancelling_at = now(), due_at = now(), waits_for = ''
    WHERE id = %(id)s AND organisation_id = %(org)s AND status IN ('validating', 'in_progress') RETURNING *
"""
# Whose organisation has the fewest at work goes first, then the oldest.
CLAIM = """
    WITH busy AS (
        SELECT organisation_id, count(*) AS running FROM batches_batch
        WHERE leased_until IS NOT NULL AND leased_until > now() GROUP BY 1
    )
    UPDATE batches_batch SET lease = %(lease)s, leased_until = now() + make_interval(secs => %(lease_s)s)
    WHERE id = (
        SELECT due.id FROM batches_batch due LEFT JOIN busy ON busy.organisation_id = due.organisation_id
        WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling')
            AND due_at <= now() AND (leased_until IS NULL OR leased_until < now())
            AND due.organisation_id <> ALL(%(full)s::varchar[])
        ORDER BY coalesce(busy.running, 0), due.id
        LIMIT 1 FOR UPDATE OF due SKIP LOCKED
    ) RETURNING *
"""
RENEW = """
    UPDATE batches_batch SET leased_until = now() + make_interval(secs => %(lease_s)s)
    WHERE id = %(id)s AND lease = %(lease)s RETURNING status
"""
PARK = """
    UPDATE batches_batch SET lease = NULL, leased_until = NULL, waits_for = %(waits_for)s,
        due_at = now() + make_interval(secs => %(wait_s)s)
    WHERE id = %(id)s AND lease = %(lease)s RETURNING id
"""
BEGIN = """
    UPDATE batches_batch SET status = 'in_progress', in_progress_at = now(), total = %(total)s,
        model_name = %(model)s
    WHERE id = %(id)s AND lease = %(lease)s AND status = 'validating' RETURNING id
"""
# The row is written once, whoever writes it, and counted with it.
PUT = """
    WITH put AS (
        INSERT INTO batches_batchresult (batch_id, number, failed, sealed)
        SELECT id, %(number)s, %(failed)s, %(sealed)s FROM batches_batch WHERE id = %(id)s AND lease = %(lease)s
        ON CONFLICT (batch_id, number) DO NOTHING RETURNING failed
    )
    UPDATE batches_batch SET completed = completed + (NOT put.failed)::int,
        failed = batches_batch.failed + put.failed::int, waits_for = '',
        prompt_tokens = prompt_tokens + %(prompt_tokens)s, cached_tokens = cached_tokens + %(cached_tokens)s,
        completion_tokens = completion_tokens + %(completion_tokens)s,
        reasoning_tokens = reasoning_tokens + %(reasoning_tokens)s,
        stored_bytes = stored_bytes + octet_length(%(sealed)s::bytea)
    FROM put WHERE id = %(id)s RETURNING stored_bytes
"""
DONE = "SELECT number FROM batches_batchresult WHERE batch_id = %(id)s"
# A page of results, and no more of it than so many bytes behind the first one.
RESULTS = """
    SELECT number, failed, sealed FROM (
        SELECT number, failed, sealed, sum(octet_length(sealed)) OVER (ORDER BY number) - octet_length(sealed) AS before
        FROM (
            SELECT number, failed, sealed FROM batches_batchresult
            WHERE batch_id = %(id)s AND number >= %(start)s ORDER BY number LIMIT %(limit)s
        ) page
    ) sized WHERE before < %(most_bytes)s ORDER BY number
"""
FINALIZE = """
    UPDATE batches_batch SET status = CASE WHEN status = 'cancelling' THEN status ELSE 'finalizing' END,
        finalizing_at = coalesce(finalizing_at, now())
    WHERE id = %(id)s AND lease = %(lease)s RETURNING status
"""
END = """
    WITH mine AS (
        UPDATE batches_batch SET status = %(status)s, ended_at = now(), lease = NULL, leased_until = NULL,
            waits_for = '', errors = %(errors)s, output_file_id = %(output)s, error_file_id = %(error)s
        WHERE id = %(id)s AND lease = %(lease)s RETURNING id
    ), shown AS (
        UPDATE batches_storedfile SET is_complete = true
        WHERE id IN (%(output)s, %(error)s) AND EXISTS (SELECT 1 FROM mine)
    ) SELECT id FROM mine
"""
FORGET = """
    DELETE FROM batches_batchresult WHERE id IN (
        SELECT id FROM batches_batchresult WHERE batch_id = %(id)s LIMIT 2000
    ) RETURNING id
"""
