# Ruby's pg with its default settings; the address and the password come from the environment.

require_relative "cases"

# Runs the block with a connection.
def with
  -> { PG.connect { |connection| yield connection } }
end

def one(connection, sql, *values)
  connection.exec_params(sql, values).getvalue(0, 0)
end

def expect_state(state)
  yield
  raise "no #{state}"
rescue PG::Error => error
  check error.result.error_field(PG::PG_DIAG_SQLSTATE), state
end

# For the shared cases: all of them give their statements the same names.
class Client
  def initialize
    @connection = PG.connect
    @connection.type_map_for_results = PG::BasicTypeMapForResults.new(@connection)
    @names = {}
  end

  def begin = @connection.exec("BEGIN")
  def commit = @connection.exec("COMMIT")
  def close = @connection.close

  def row(sql, *values)
    unless @names.key? sql
      @names[sql] = "statement #{@names.size}"
      @connection.prepare(@names[sql], sql)
    end
    @connection.exec_prepared(@names[sql], values).values.first
  end
end

cases = {
  "connect" => with do |connection|
    check one(connection, "SELECT current_user"), "weir"
    check connection.server_version >= 140_000, true
  end,

  "types" => with do |connection|
    values = [42, 2**40, "hé'\\", 1.5, true, nil, "12345.678901", "{1,2,3}"]
    casts = %w[int bigint text float8 bool text numeric int[]]
    columns = casts.each_with_index.map { |cast, place| "$#{place + 1}::#{cast}" }
    row = connection.exec_params("SELECT #{columns.join(', ')}", values).values.first
    check row, %w[42 1099511627776 hé'\\ 1.5 t] + [nil, "12345.678901", "{1,2,3}"]
    bytes = { value: "\0\1\xFF".b, format: 1 }
    check connection.exec_params("SELECT $1::bytea", [bytes], 1).getvalue(0, 0), bytes[:value]
  end,

  "errors" => with do |connection|
    expect_state("22012") { one(connection, "SELECT 1/$1::int", 0) }
    expect_state("42P01") { connection.exec("SELECT * FROM nowhere") }
    check one(connection, "SELECT 1"), "1"
  end,

  "transactions" => with do |connection|
    connection.exec("CREATE TABLE ruby_savepoints (a int)")
    connection.transaction do
      connection.exec("INSERT INTO ruby_savepoints VALUES (1)")
      connection.exec("SAVEPOINT s")
      expect_state("22012") { connection.exec("SELECT 1/0") }
      expect_state("25P02") { connection.exec("SELECT 1") }
      connection.exec("ROLLBACK TO s")
    end
    begin
      connection.transaction do
        connection.exec("INSERT INTO ruby_savepoints VALUES (2)")
        raise IndexError
      end
    rescue IndexError
      check connection.transaction_status, PG::PQTRANS_IDLE
    end
    check one(connection, "SELECT sum(a) FROM ruby_savepoints"), "1"
  end,

  "prepared" => -> { prepared(Client.method(:new)) },

  "pipeline" => with do |connection|
    connection.enter_pipeline_mode
    %w[5 0 2].each { |divisor| connection.send_query_params("SELECT 10/$1::int", [divisor]) }
    connection.pipeline_sync
    connection.send_query_params("SELECT 10/$1::int", ["1"])
    connection.pipeline_sync
    results = Array.new(3) { connection.get_result.tap { connection.get_result } }
    check results.first.getvalue(0, 0), "2"
    expect_state("22012") { results[1].check }
    check results.last.result_status, PG::PGRES_PIPELINE_ABORTED
    check connection.get_result.result_status, PG::PGRES_PIPELINE_SYNC
    check connection.get_last_result.getvalue(0, 0), "10"
    check connection.get_result.result_status, PG::PGRES_PIPELINE_SYNC
    connection.exit_pipeline_mode
    check one(connection, "SELECT 1"), "1"
  end,

  "cursor" => with do |connection|
    sum = 0
    connection.transaction do
      connection.exec("DECLARE numbers CURSOR FOR SELECT generate_series(1, 1000)")
      until (numbers = connection.exec("FETCH 100 FROM numbers").column_values(0)).empty?
        sum += numbers.sum(&:to_i)
      end
    end
    check sum, 500_500
  end,

  "cancel" => with do |connection|
    connection.send_query(SLEEP)
    until_active(SLEEP)
    check connection.cancel, nil
    expect_state("57014") { connection.get_last_result }
    check one(connection, "SELECT 1"), "1"
  end,

  "copy" => with do |connection|
    connection.exec("CREATE TABLE ruby_copy (a int, b text)")
    lines = Array.new(5000) { |number| "#{number}\trow #{number}\n" }
    connection.copy_data("COPY ruby_copy FROM STDIN") { lines.each { |line| connection.put_copy_data(line) } }
    found = []
    connection.copy_data("COPY (SELECT * FROM ruby_copy ORDER BY a) TO STDOUT") do
      while (line = connection.get_copy_data)
        found << line
      end
    end
    check found, lines
    expect_state("22P02") { connection.copy_data("COPY ruby_copy FROM STDIN") { connection.put_copy_data("x\ty\n") } }
    check one(connection, "SELECT count(*) FROM ruby_copy"), "5000"
  end,

  "large" => with do |connection|
    text = "weir" * 1_000_000
    raise "something else" unless one(connection, "SELECT $1::text", text) == text
  end,

  "notices" => with do |connection|
    seen = []
    connection.set_notice_receiver { |notice| seen << notice.error_field(PG::PG_DIAG_MESSAGE_PRIMARY) }
    connection.exec("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
    check seen, %w[one two]
  end,

  "rivals" => -> { rivals(Client.method(:new)) }
}

run_cases("pg", PG::VERSION, cases)
