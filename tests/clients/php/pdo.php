<?php
// PDO with its default settings: it prepares every query with values under a name.

const RIVALS = 8;
const TURNS = 30;
const SERVER = 'SELECT pg_backend_pid()';
const DOUBLED = 'SELECT ?::int * 2, pg_backend_pid()';

// The user and the password are arguments: PDO does not look into the environment for them.
function open(): PDO
{
    $source = 'pgsql:host=' . getenv('PGHOST') . ';port=' . getenv('PGPORT') . ';dbname=' . getenv('PGDATABASE');
    return new PDO($source, getenv('PGUSER'), getenv('PGPASSWORD'));
}

function check(bool $holds, mixed $found): void
{
    if (!$holds) {
        throw new Exception('found ' . json_encode($found));
    }
}

function expect_state(string $state, callable $step): void
{
    try {
        $step();
    } catch (PDOException $error) {
        check($error->errorInfo[0] === $state, $error->getMessage());
        return;
    }
    throw new Exception("no $state");
}

// The first row of the SQL, with the values in place of its question marks.
function row(PDO $connection, string $sql, array $values = []): array
{
    $statement = $connection->prepare($sql);
    $statement->execute($values);
    return $statement->fetch(PDO::FETCH_NUM);
}

$cases = [
    'connect' => function () {
        check(row(open(), 'SELECT current_user::text') === ['weir'], 'another user');
        check((int) open()->getAttribute(PDO::ATTR_SERVER_VERSION) >= 14, 'an old server');
    },

    'types' => function () {
        $connection = open();
        $sql = 'SELECT ?::int, ?::bigint, ?::text, ?::float8, ?::bool, ?::text, ?::numeric, ?::int[]';
        $values = [42, 1 << 40, "hé'\\", 1.5, 'true', null, '12345.678901', '{1,2,3}'];
        $found = row($connection, $sql, $values);
        check($found == [42, 1 << 40, "hé'\\", '1.5', true, null, '12345.678901', '{1,2,3}'], $found);
        $statement = $connection->prepare('SELECT ?::bytea');
        $statement->bindValue(1, "\0\1\xff", PDO::PARAM_LOB);
        $statement->execute();
        check(stream_get_contents($statement->fetchColumn()) === "\0\1\xff", 'bytes');
    },

    'errors' => function () {
        $connection = open();
        expect_state('22012', fn () => row($connection, 'SELECT 1/?::int', [0]));
        expect_state('42P01', fn () => row($connection, 'SELECT * FROM nowhere'));
        check(row($connection, 'SELECT 1') === [1], 'one');
    },

    'transactions' => function () {
        $connection = open();
        $connection->exec('CREATE TABLE pdo_savepoints (a int)');
        $insert = $connection->prepare('INSERT INTO pdo_savepoints VALUES (?)');
        $connection->beginTransaction();
        $insert->execute([1]);
        $connection->exec('SAVEPOINT s');
        $insert->execute([2]);
        expect_state('22012', fn () => $connection->exec('SELECT 1/0'));
        expect_state('25P02', fn () => $insert->execute([3]));
        $connection->exec('ROLLBACK TO s');
        $connection->commit();
        $connection->beginTransaction();
        $insert->execute([4]);
        $connection->rollBack();
        check(row($connection, 'SELECT sum(a)::int FROM pdo_savepoints') === [1], 'sum');
    },

    // One statement over many transactions. Two holders take both servers, and one leaves: that server is left.
    'prepared' => function () {
        [$own, $holder, $another] = [open(), open(), open()];
        $doubled = $own->prepare(DOUBLED);
        for ($turn = 0; $turn < 20; $turn++) {
            $held = [];
            foreach ([$holder, $another] as $each) {
                $each->beginTransaction();
                $held[row($each, SERVER)[0]] = $each;
            }
            ksort($held);
            $left = array_keys($held)[$turn % 2];
            $held[$left]->commit();
            $own->beginTransaction();
            $doubled->execute([$turn]);
            $found = $doubled->fetch(PDO::FETCH_NUM);
            check($found === [$turn * 2, $left], [$found, $turn, $left]);
            $own->commit();
            unset($held[$left]);
            current($held)->commit();
        }
    },

    'pipeline' => 'it waits for each answer',

    'cursor' => function () {
        $connection = open();
        $connection->beginTransaction();
        $connection->exec('DECLARE numbers CURSOR FOR SELECT generate_series(1, 1000)');
        $sum = 0;
        while ($numbers = $connection->query('FETCH 100 FROM numbers')->fetchAll(PDO::FETCH_COLUMN)) {
            $sum += array_sum($numbers);
        }
        $connection->commit();
        check($sum === 500500, $sum);
    },

    'cancel' => 'it has no call for it',

    'copy' => function () {
        $connection = open();
        $connection->exec('CREATE TABLE pdo_copy (a int, b text)');
        $lines = array_map(fn ($number) => "$number\trow $number\n", range(0, 4999));
        check($connection->pgsqlCopyFromArray('pdo_copy', $lines), 'copy');
        check($connection->pgsqlCopyToArray('pdo_copy') === $lines, 'the lines');
        expect_state('22P02', fn () => $connection->pgsqlCopyFromArray('pdo_copy', ["x\ty\n"]));
        check(row($connection, 'SELECT count(*)::int FROM pdo_copy') === [5000], 'count');
    },

    'large' => function () {
        $text = str_repeat('weir', 1_000_000);
        check(row(open(), 'SELECT ?::text', [$text]) === [$text], 'something else');
    },

    'notices' => 'it has no call for it',

    // More clients than servers: the same statement names, different SQL, each answer with a tag.
    'rivals' => function () {
        $players = array_map(fn ($number) => play($number), range(0, RIVALS - 1));
        [$servers, $status] = [[], 0];
        foreach ($players as $player) {
            [$output, $ended] = $player();
            $status = max($status, $ended);
            $servers += array_flip(array_filter(explode("\n", $output)));
        }
        check($status === 0, 'a client failed');
        check(count($servers) >= 1 && count($servers) <= (int) getenv('POOL_SIZE'), $servers);
    },
];

// A client in a process of its own; what is given waits for its end.
function play(int $number): callable
{
    $process = proc_open([PHP_BINARY, __FILE__, 'play', $number], [1 => ['pipe', 'w']], $pipes);
    return function () use ($process, $pipes) {
        $output = stream_get_contents($pipes[1]);
        return [$output, proc_close($process)];
    };
}

function play_as(int $number): void
{
    $connection = open();
    $tagged = $connection->prepare("SELECT 'client $number', ?::int + $number, pg_backend_pid()");
    $doubled = $connection->prepare(DOUBLED);
    for ($turn = 0; $turn < TURNS; $turn++) {
        $connection->beginTransaction();
        $tagged->execute([$turn]);
        [$whose, $sum, $server] = $tagged->fetch(PDO::FETCH_NUM);
        $doubled->execute([$turn]);
        $second = $doubled->fetch(PDO::FETCH_NUM);
        $connection->commit();
        check([$whose, $sum] === ["client $number", $turn + $number], [$whose, $sum, $number, $turn]);
        check($second === [$turn * 2, $server], [$second, $turn, $server]);
        echo "$server\n";
    }
}

if (($argv[1] ?? null) === 'play') {
    play_as((int) $argv[2]);
    exit;
}
printf("driver PDO %s\n", phpversion('pdo_pgsql'));
foreach ($cases as $name => $run) {
    if (is_string($run)) {
        echo "skip $name: $run\n";
        continue;
    }
    try {
        $run();
        echo "ok $name\n";
    } catch (Throwable $error) {
        echo "not ok $name: ", strtr($error->getMessage(), "\n", ' '), "\n";
    }
}
printf("1..%d\n", count($cases));
