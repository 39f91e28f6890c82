-- +goose Up

-- A CONFIRMED order is not at rest any more: it waits for news of its completion,
-- and is due when they should have come long ago.
UPDATE orders SET step = 'COMPLETE', due_time = update_time + 60000000 WHERE state = 'CONFIRMED' AND step = 'DONE';

-- +goose Down
UPDATE orders SET step = 'DONE', due_time = NULL WHERE step = 'COMPLETE';
