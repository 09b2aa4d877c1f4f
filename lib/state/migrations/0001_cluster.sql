-- One installation. The id is drawn once and enters every derived id.
CREATE TABLE cluster (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO cluster DEFAULT VALUES;

-- The fence of the leader: taken when a Lease is won, carried by every write of the controller, refused when stale.
CREATE TABLE leader_epochs (
    name text PRIMARY KEY,
    epoch bigint NOT NULL,
    holder text NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What the controller is about to do to AWS, written under its epoch before it does it.
CREATE TABLE aws_intents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    epoch bigint NOT NULL,
    object text NOT NULL,
    action text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at timestamptz,
    outcome text
);
CREATE INDEX aws_intents_open ON aws_intents (object) WHERE done_at IS NULL;
