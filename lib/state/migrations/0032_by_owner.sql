-- What an owner holds is looked up when it is edited: without these, each edit of one reads what all others of its namespace hold.
CREATE INDEX dataset_producers_owner ON dataset_producers (owner_name, owner_kind);
CREATE INDEX wants_owner ON wants (owner_name, namespace, owner_kind);
