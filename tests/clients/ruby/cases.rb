# Runs the cases of a driver, and holds those that are about more than one client.
#
# For these a client has `begin`, `commit`, `close` and `row(sql, *values)`, which gives the values of the first row.

require "pg"
require "set"
require "timeout"

RIVALS = 8
TURNS = 30
# Only a broken pooler ever makes a case wait for so long.
PATIENCE = 60
SERVER = "SELECT pg_backend_pid()".freeze
DOUBLED = "SELECT $1::int * 2, pg_backend_pid()".freeze
SLEEP = "SELECT pg_sleep(600)".freeze

# A case is something to call, or the reason why the driver has no such thing.
def run_cases(driver, version, cases)
  $stdout.sync = true
  puts "driver #{driver} #{version}"
  cases.each { |name, run| puts outcome(name, run) }
  puts "1..#{cases.size}"
end

def outcome(name, run)
  return "skip #{name}: #{run}" if run.is_a? String

  Timeout.timeout(PATIENCE) { run.call }
  "ok #{name}"
rescue StandardError => error
  warn error.full_message(highlight: false)
  "not ok #{name}: #{error.class}: #{error.message.split.join(' ')}"
end

def check(found, wanted)
  raise "found #{found.inspect}, not #{wanted.inspect}" if found != wanted
end

# One statement over many transactions. Two holders take both servers, and one leaves: that server is left.
def prepared(connect)
  own, *holders = Array.new(3) { connect.call }
  20.times do |turn|
    held = holders.to_h do |holder|
      holder.begin
      [holder.row(SERVER).first, holder]
    end
    left = held.keys.sort[turn % 2]
    held.delete(left).commit
    own.begin
    check own.row(DOUBLED, turn), [turn * 2, left]
    own.commit
    held.each_value(&:commit)
  end
ensure
  [own, *holders].each(&:close)
end

# More clients than servers at the same time: the same statement names, different SQL, each answer with a tag.
def rivals(connect)
  clients = Array.new(RIVALS) { connect.call }
  servers = clients.each_with_index.map { |own, number| Thread.new { play(own, number) } }.flat_map(&:value).to_set
  raise "#{servers.size} servers" if servers.size > Integer(ENV.fetch("POOL_SIZE"))
end

def play(own, number)
  Array.new(TURNS) do |turn|
    own.begin
    whose, sum, server = own.row("SELECT 'client #{number}', $1::int + #{number}, pg_backend_pid()", turn)
    doubled = own.row(DOUBLED, turn)
    own.commit
    check [whose, sum], ["client #{number}", turn + number]
    check doubled, [turn * 2, server]
    server
  end
ensure
  # Who fails must not hold a server that others wait for.
  own.close
end

# Waits until the server itself says that the query runs.
def until_active(sql)
  looker = PG.connect(port: ENV.fetch("DIRECT_PORT"), user: "postgres")
  look = "SELECT 1 FROM pg_stat_activity WHERE query = $1 AND state = 'active'"
  nil until looker.exec_params(look, [sql]).ntuples == 1
  looker.close
end
