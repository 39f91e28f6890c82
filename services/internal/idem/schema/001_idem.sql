-- +goose Up
CREATE TABLE idem (
	scope       TEXT   NOT NULL, -- the method and who called it
	id          TEXT   NOT NULL, -- the request id
	fingerprint BYTEA  NOT NULL, -- of the request
	reply       TEXT   NOT NULL, -- JSON; never empty once committed
	create_time BIGINT NOT NULL, -- microseconds since 1970
	PRIMARY KEY (scope, id)
);
CREATE INDEX idem_by_time ON idem (create_time);

-- +goose Down
DROP TABLE idem;
