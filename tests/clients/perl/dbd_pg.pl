#!/usr/bin/env perl
# DBD::Pg with its default settings: it prepares a statement with values under a name at its second use. The address
# and the password come from the environment.

use strict;
use warnings;
use DBI;
use DBD::Pg qw(:async :pg_types);

use constant {RIVALS => 8, TURNS => 30, PATIENCE => 60};
my $SERVER  = 'SELECT pg_backend_pid()';
my $DOUBLED = 'SELECT ?::int * 2, pg_backend_pid()';

sub open_connection {
    my ($settings, $user) = @_;
    my %how = (RaiseError => 1, PrintError => 0, PrintWarn => 0);
    return DBI->connect('dbi:Pg:' . ($settings // ''), $user // $ENV{PGUSER}, $ENV{PGPASSWORD}, \%how);
}

sub check {
    my ($found, $wanted) = map { join ' ', map { $_ // 'undef' } @$_ } @_;
    die "found $found, not $wanted\n" if $found ne $wanted;
}

sub expect_state {
    my ($connection, $state, $step) = @_;
    die "no $state\n" if eval { $step->(); 1 };
    check([$connection->state], [$state]);
}

my @cases = (
    connect => sub {
        my $connection = open_connection();
        check([$connection->selectrow_array('SELECT current_user')], ['weir']);
        die "an old server\n" if $connection->{pg_server_version} < 140000;
    },

    types => sub {
        my $connection = open_connection();
        my @values     = (42, 2**40, "h\x{e9}'\\", 1.5, 1, undef, '12345.678901', '{1,2,3}');
        my @casts      = qw(int bigint text float8 bool text numeric int[]);
        my $statement  = $connection->prepare('SELECT ' . join ', ', map { "?::$_" } @casts);
        for my $turn (1 .. 4) {
            $statement->execute(@values);
            my @found = $statement->fetchrow_array;
            check([@found[0 .. 6], "{@{[join ',', @{$found[7]}]}}"], \@values);
        }
        my $bytes = $connection->prepare('SELECT ?::bytea');
        $bytes->bind_param(1, "\0\1\xff", {pg_type => PG_BYTEA});
        $bytes->execute;
        check([$bytes->fetchrow_array], ["\0\1\xff"]);
    },

    errors => sub {
        my $connection = open_connection();
        my $statement  = $connection->prepare('SELECT 1/?::int');
        expect_state($connection, '22012', sub { $statement->execute(0) }) for 1 .. 4;
        expect_state($connection, '42P01', sub { $connection->do('SELECT * FROM nowhere') });
        check([$connection->selectrow_array('SELECT 1')], [1]);
    },

    transactions => sub {
        my $connection = open_connection();
        $connection->do('CREATE TABLE perl_savepoints (a int)');
        my $insert = $connection->prepare('INSERT INTO perl_savepoints VALUES (?)');
        $connection->begin_work;
        $insert->execute(1);
        $connection->pg_savepoint('s');
        $insert->execute(2);
        expect_state($connection, '22012', sub { $connection->do('SELECT 1/0') });
        expect_state($connection, '25P02', sub { $insert->execute(3) });
        $connection->pg_rollback_to('s');
        $connection->commit;
        $connection->begin_work;
        $insert->execute(4);
        $connection->rollback;
        check([$connection->selectrow_array('SELECT sum(a) FROM perl_savepoints')], [1]);
    },

    # One statement over many transactions. Two holders take both servers, and one leaves: that server is left.
    prepared => sub {
        my ($own, @holders) = map { open_connection() } 1 .. 3;
        my $doubled = $own->prepare($DOUBLED);
        for my $turn (0 .. 19) {
            my %held;
            for my $holder (@holders) {
                $holder->begin_work;
                $held{$holder->selectrow_array($SERVER)} = $holder;
            }
            my ($left, $stays) = sort { $turn % 2 ? $a <=> $b : $b <=> $a } keys %held;
            $held{$left}->commit;
            $own->begin_work;
            $doubled->execute($turn);
            check([$doubled->fetchrow_array], [$turn * 2, $left]);
            $own->commit;
            $held{$stays}->commit;
        }
    },

    pipeline => 'it waits for each answer',

    cursor => sub {
        my $connection = open_connection();
        my $sum        = 0;
        $connection->begin_work;
        $connection->do('DECLARE numbers CURSOR FOR SELECT generate_series(1, 1000)');
        while (my @numbers = @{$connection->selectcol_arrayref('FETCH 100 FROM numbers')}) {
            $sum += $_ for @numbers;
        }
        $connection->commit;
        check([$sum], [500500]);
    },

    cancel => sub {
        my $connection = open_connection();
        $connection->do('SELECT pg_sleep(600)', {pg_async => PG_ASYNC});
        my $looker = open_connection("port=$ENV{DIRECT_PORT}", 'postgres');
        my $look   = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'";
        1 until $looker->selectrow_array($look);
        check([$connection->pg_cancel], [1]);
        check([$connection->selectrow_array('SELECT 1')], [1]);
    },

    copy => sub {
        my $connection = open_connection();
        $connection->do('CREATE TABLE perl_copy (a int, b text)');
        my @lines = map { "$_\trow $_\n" } 0 .. 4999;
        $connection->do('COPY perl_copy FROM STDIN');
        $connection->pg_putcopydata($_) for @lines;
        $connection->pg_putcopyend;
        $connection->do('COPY (SELECT * FROM perl_copy ORDER BY a) TO STDOUT');
        my (@found, $line);
        push @found, $line while $connection->pg_getcopydata($line) >= 0;
        check(\@found, \@lines);
        $connection->do('COPY perl_copy FROM STDIN');
        $connection->pg_putcopydata("x\ty\n");
        expect_state($connection, '22P02', sub { $connection->pg_putcopyend });
        check([$connection->selectrow_array('SELECT count(*) FROM perl_copy')], [5000]);
    },

    large => sub {
        my $text = 'weir' x 1_000_000;
        check([open_connection()->selectrow_array('SELECT ?::text', undef, $text)], [$text]);
    },

    notices => sub {
        my $connection = open_connection();
        my @seen;
        local $SIG{__WARN__} = sub { push @seen, shift =~ s/\n//r };
        $connection->{PrintWarn} = 1;
        $connection->do(q{DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$});
        check(\@seen, ['NOTICE:  one', 'WARNING:  two']);
    },

    # More clients than servers at the same time, each in a process of its own.
    rivals => sub {
        my @players = map { my $number = $_; open my $player, '-|' or exit play($number); $player } 0 .. RIVALS - 1;
        my %servers;
        for my $player (@players) {
            chomp(my @lines = <$player>);
            die "a client failed\n" unless close $player;
            $servers{$_} = 1 for @lines;
        }
        my $count = keys %servers;
        die "$count servers\n" if $count < 1 or $count > $ENV{POOL_SIZE};
    },
);

# The same statement names, different SQL, each answer with a tag. Gives the status of the process.
sub play {
    my $number = shift;
    return 0 if eval {
        my $connection = open_connection();
        my $tagged     = $connection->prepare("SELECT 'client $number', ?::int + $number, pg_backend_pid()");
        my $doubled    = $connection->prepare($DOUBLED);
        for my $turn (0 .. TURNS - 1) {
            $connection->begin_work;
            $tagged->execute($turn);
            my ($whose, $sum, $server) = $tagged->fetchrow_array;
            $doubled->execute($turn);
            my @second = $doubled->fetchrow_array;
            $connection->commit;
            check([$whose, $sum], ["client $number", $turn + $number]);
            check(\@second, [$turn * 2, $server]);
            print "$server\n";
        }
        1;
    };
    print STDERR $@;
    return 1;
}

$| = 1;
print "driver DBD::Pg $DBD::Pg::VERSION\n";
my $count = 0;
while (my ($name, $run) = splice @cases, 0, 2) {
    $count++;
    if (!ref $run) {
        print "skip $name: $run\n";
    } elsif (eval { local $SIG{ALRM} = sub { die "it does not end\n" }; alarm PATIENCE; $run->(); alarm 0; 1 }) {
        print "ok $name\n";
    } else {
        alarm 0;
        print "not ok $name: ", join(' ', split ' ', $@), "\n";
    }
}
print "1..$count\n";
