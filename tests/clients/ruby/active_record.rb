# ActiveRecord with its default settings: it prepares its queries under names, and sets up each connection with SET.

require "active_record"
require_relative "cases"

ActiveRecord::Base.establish_connection(
  adapter: "postgresql",
  host: ENV.fetch("PGHOST"),
  port: ENV.fetch("PGPORT"),
  database: ENV.fetch("PGDATABASE"),
  username: ENV.fetch("PGUSER"),
  password: ENV.fetch("PGPASSWORD"),
  # One for each rival.
  pool: RIVALS + 1
)

class Thing < ActiveRecord::Base
  has_many :parts, class_name: "Thing", foreign_key: :whole_id
  belongs_to :whole, class_name: "Thing", optional: true
end

def connection = ActiveRecord::Base.connection

def expect_error(kind)
  yield
  raise "no #{kind}"
rescue kind
  nil
end

# For the shared cases: a connection of the pool.
class Client
  def initialize
    @connection = ActiveRecord::Base.connection_pool.checkout
  end

  def begin = @connection.begin_db_transaction
  def commit = @connection.commit_db_transaction

  def close
    ActiveRecord::Base.connection_pool.remove(@connection)
    @connection.disconnect!
  end

  def row(sql, *values)
    binds = values.map { |value| ActiveRecord::Relation::QueryAttribute.new("n", value, ActiveRecord::Type::Integer.new) }
    @connection.exec_query(sql, "SQL", binds, prepare: true).rows.first
  end
end

cases = {
  "connect" => lambda do
    check connection.select_value("SELECT current_user::text"), "weir"
    check connection.database_version >= 140_000, true
  end,

  "a schema" => lambda do
    ActiveRecord::Schema.verbose = false
    ActiveRecord::Schema.define do
      create_table :things do |t|
        t.integer :number, null: false, index: true
        t.text :name
        t.decimal :price, precision: 20, scale: 6
        t.timestamp :at
        t.binary :blob
        t.integer :numbers, array: true
        t.jsonb :json
        t.references :whole
      end
    end
    check connection.tables.include?("things"), true
  end,

  "types" => lambda do
    values = {
      number: 42, name: "hé'\\", price: BigDecimal("12345.678901"), at: Time.utc(2024, 2, 29, 12, 30),
      blob: "\0\1\xFF".b, numbers: [1, 2, 3], json: { "a" => [1, nil] }
    }
    thing = Thing.create!(values)
    found = Thing.where("? = ANY (numbers)", 2).find(thing.id)
    check values.keys.to_h { |name| [name, found[name]] }, values
  end,

  "errors" => lambda do
    expect_error(ActiveRecord::NotNullViolation) { Thing.create!(number: nil) }
    expect_error(ActiveRecord::StatementInvalid) { Thing.where("1/0 = 1").to_a }
    expect_error(ActiveRecord::StatementInvalid) { connection.select_value("SELECT * FROM nowhere") }
    check connection.select_value("SELECT 1"), 1
  end,

  "transactions" => lambda do
    Thing.delete_all
    Thing.transaction do
      Thing.create!(number: 1)
      expect_error(ActiveRecord::StatementInvalid) do
        Thing.transaction(requires_new: true) do
          Thing.create!(number: 2)
          connection.execute("SELECT 1/0")
        end
      end
      Thing.transaction(requires_new: true) { Thing.create!(number: 3) }
    end
    Thing.transaction(isolation: :serializable) do
      Thing.create!(number: 4)
      raise ActiveRecord::Rollback
    end
    check Thing.order(:number).pluck(:number), [1, 3]
  end,

  "prepared" => -> { prepared(Client.method(:new)) },
  "pipeline" => "it waits for each answer",

  "cursor" => lambda do
    Thing.insert_all!(Array.new(1000) { |number| { number: 1000 + number } })
    check Thing.where("number >= 1000").find_each(batch_size: 100).sum(&:number), 1_499_500
    sum = 0
    Thing.transaction do
      connection.execute("DECLARE numbers CURSOR FOR SELECT generate_series(1, 1000)")
      until (numbers = connection.select_values("FETCH 100 FROM numbers")).empty?
        sum += numbers.sum
      end
    end
    check sum, 500_500
  end,

  "cancel" => "a matter of the driver below",
  "copy" => "a matter of the driver below",

  "large" => lambda do
    text, blob = "weir" * 1_000_000, "\0\1".b * 1_000_000
    found = Thing.find(Thing.create!(number: 0, name: text, blob: blob).id)
    raise "something else" unless found.name == text && found.blob == blob
  end,

  "notices" => "a matter of the driver below",
  "rivals" => -> { rivals(Client.method(:new)) },

  "objects with parts" => lambda do
    whole = Thing.create!(number: -7, parts: Array.new(50) { |number| Thing.new(number: number) })
    found = Thing.includes(:parts).lock.find_by!(number: -7)
    check found.parts.sort_by(&:id).map(&:number), (0...50).to_a
    whole.parts.update_all("number = number + 1")
    check whole.parts.sum(:number), 1275
  end
}

run_cases("ActiveRecord", ActiveRecord.version, cases)
