-- Headquarters' tables, but for `arrivals`, which each engine makes its own way. Times are microseconds since 1970 UTC, days are
-- local to the shop. `postgres.py` reads this too: it knows INTEGER, REAL, BLOB and WITHOUT ROWID.

CREATE TABLE IF NOT EXISTS boxes (
    gateway TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    shard TEXT NOT NULL,
    store TEXT NOT NULL UNIQUE,          -- one box a shop; a swap is a later story
    number INTEGER NOT NULL UNIQUE,      -- the shop's number in signed codes
    name_zh TEXT NOT NULL,
    name_en TEXT NOT NULL,
    timezone TEXT NOT NULL,
    public TEXT,                         -- signs its batches; NULL until enrolled
    created_us INTEGER NOT NULL,
    enrolled_us INTEGER
);

CREATE TABLE IF NOT EXISTS labels (      -- enrolment labels, by the hash of their single-use secret
    secret_sha256 TEXT PRIMARY KEY,
    gateway TEXT NOT NULL,
    issued_us INTEGER NOT NULL,
    not_after_us INTEGER NOT NULL,
    void INTEGER NOT NULL DEFAULT 0,     -- a newer one replaced it
    used_us INTEGER,
    used_public TEXT                     -- the key of the box that used it
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS labels_box ON labels (gateway);

CREATE TABLE IF NOT EXISTS label_complaints (
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,               -- whose label was tried
    at_us INTEGER NOT NULL,
    reason TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS label_complaints_box ON label_complaints (gateway, id);

CREATE TABLE IF NOT EXISTS epochs (      -- starts of boxes, as their batches and beats tell
    gateway TEXT NOT NULL,
    epoch TEXT NOT NULL,
    parent TEXT,
    parent_heads TEXT NOT NULL,          -- JSON: lane to [last seq, chain head]
    first_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS marks (       -- one lane of one epoch: a stream
    stream INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    epoch TEXT NOT NULL,
    lane INTEGER NOT NULL,
    mark INTEGER NOT NULL DEFAULT 0,     -- every row up to here was received or declared
    head TEXT NOT NULL DEFAULT '',       -- chain head of the row `mark`
    produced INTEGER NOT NULL DEFAULT 0, -- highest seq the box ever said it has
    received INTEGER NOT NULL DEFAULT 0, -- rows in `arrivals` and `quarantine`
    declared INTEGER NOT NULL DEFAULT 0, -- rows in `declared`
    UNIQUE (gateway, epoch, lane)
);

CREATE TABLE IF NOT EXISTS arrived (     -- how many rows have arrived in all: the highest id in `arrivals`
    one INTEGER PRIMARY KEY,
    last INTEGER NOT NULL
);
INSERT INTO arrived VALUES (1, 0) ON CONFLICT (one) DO NOTHING;

CREATE VIEW IF NOT EXISTS rows AS
    SELECT a.id AS id, m.gateway AS gateway, m.epoch AS epoch, m.lane AS lane, a.seq AS seq, a.record_us AS record_us,
           a.received_us AS received_us, a.type AS type, a.event AS event
    FROM arrivals a JOIN marks m ON m.stream = a.stream;

CREATE TABLE IF NOT EXISTS declared (    -- rows that never came, and never will: boxes said why, and what they summed up to
    gateway TEXT NOT NULL,
    epoch TEXT NOT NULL,
    lane INTEGER NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    reason TEXT NOT NULL,
    rollup TEXT NOT NULL,                -- JSON, as in the tombstone
    received_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, epoch, lane, first)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS quarantine (
    gateway TEXT NOT NULL,
    epoch TEXT NOT NULL,
    lane INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    record_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    why TEXT NOT NULL,
    event BLOB NOT NULL,
    PRIMARY KEY (gateway, epoch, lane, seq)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS counts (
    gateway TEXT NOT NULL,
    day TEXT NOT NULL,
    type TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (gateway, day, type)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS zones (       -- what happened in each zone on each day
    gateway TEXT NOT NULL,
    day TEXT NOT NULL,
    zone TEXT NOT NULL,
    type TEXT NOT NULL,
    n INTEGER NOT NULL,
    dwell_s REAL NOT NULL,               -- of all visits that ended there
    PRIMARY KEY (gateway, day, zone, type)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS beats (
    gateway TEXT PRIMARY KEY,
    heard_us INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    epoch TEXT NOT NULL,
    last TEXT NOT NULL                   -- JSON: lane to last seq
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS uses (        -- redemptions, refusals and online attempts of known identifiers
    id INTEGER PRIMARY KEY,
    voucher_id TEXT,
    gateway TEXT,                        -- NULL: tried online
    kind TEXT NOT NULL,                  -- 'redeemed', 'reversed', 'authorized', 'voided', 'expired', 'refused' or 'online_refused'
    reason TEXT NOT NULL,
    station TEXT NOT NULL,
    staff TEXT,
    at_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    campaign INTEGER NOT NULL DEFAULT 0,
    units INTEGER NOT NULL DEFAULT 0,    -- uses that count: below zero where a redemption was reversed
    amount_minor INTEGER NOT NULL DEFAULT 0, -- of a face value, in the same way
    redemption_id TEXT NOT NULL DEFAULT ''   -- of what was redeemed or reversed
);
CREATE INDEX IF NOT EXISTS uses_voucher ON uses (voucher_id);
CREATE INDEX IF NOT EXISTS uses_moment ON uses (gateway, at_us);

CREATE TABLE IF NOT EXISTS voucher_shapes (  -- of vouchers that are more than so many uses
    voucher_id TEXT PRIMARY KEY,
    partial INTEGER NOT NULL,            -- the value is spent in parts
    practice INTEGER NOT NULL,           -- for training: nothing counts
    windows TEXT NOT NULL                -- JSON: [[from, to], ...], seconds since 1970 UTC
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS campaign_limits (  -- what a shop may give out of a campaign
    gateway TEXT NOT NULL,
    campaign INTEGER NOT NULL,
    stock INTEGER,                       -- NULL: no end
    daily INTEGER,
    session INTEGER NOT NULL,
    reverse_s INTEGER,
    PRIMARY KEY (gateway, campaign)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS visits (      -- visits that have not ended
    gateway TEXT NOT NULL,
    visit_id TEXT NOT NULL,
    subject TEXT NOT NULL,
    subject_kind TEXT NOT NULL,
    zone TEXT NOT NULL,
    started_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, visit_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS occupancy (
    gateway TEXT NOT NULL,
    zone TEXT NOT NULL,
    estimate REAL,
    low REAL NOT NULL,
    high REAL NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, zone)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS order_events (
    id INTEGER PRIMARY KEY,
    order_id TEXT NOT NULL,
    gateway TEXT NOT NULL,
    state TEXT NOT NULL,                 -- 'paid', 'staging', 'staged', 'collecting' or 'collected'
    intent_id TEXT,                      -- the intended opening this came from
    bank TEXT NOT NULL,
    compartment INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS order_events_order ON order_events (order_id);
CREATE INDEX IF NOT EXISTS order_events_intent ON order_events (intent_id);

CREATE TABLE IF NOT EXISTS vouchers (
    voucher_id TEXT PRIMARY KEY,
    gateway TEXT NOT NULL,
    campaign INTEGER NOT NULL,
    title_zh TEXT NOT NULL,
    title_en TEXT NOT NULL,
    not_before_s INTEGER NOT NULL,
    not_after_s INTEGER NOT NULL,
    uses INTEGER NOT NULL,
    value_minor INTEGER NOT NULL,
    revoked INTEGER NOT NULL DEFAULT 0,
    token TEXT NOT NULL,
    short_code TEXT NOT NULL,
    issued_us INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS vouchers_box ON vouchers (gateway, issued_us);

CREATE TABLE IF NOT EXISTS pieces (      -- vouchers issued by the thousand: asked for the same piece again, the same voucher is told
    piece TEXT PRIMARY KEY,
    voucher_id TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS unlisted (    -- in no shop's list: their signed code is all a shop needs
    voucher_id TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS voucher_codes (  -- codes without signature that stand for a voucher, by their hash
    digest TEXT PRIMARY KEY,
    voucher_id TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS voucher_codes_voucher ON voucher_codes (voucher_id);

CREATE TABLE IF NOT EXISTS issuer_keys (    -- keys of other issuers, and what became of any key, ours among them
    format TEXT NOT NULL,
    public TEXT NOT NULL,                -- 64 hex digits
    said TEXT NOT NULL,                  -- JSON of what the shops are told
    PRIMARY KEY (format, public)
);

CREATE TABLE IF NOT EXISTS orders (
    order_id TEXT PRIMARY KEY,
    gateway TEXT NOT NULL,
    number TEXT NOT NULL,
    customer TEXT NOT NULL,              -- masked; the full name is never here
    parcels INTEGER NOT NULL,
    lines TEXT NOT NULL,                 -- JSON
    cancelled INTEGER NOT NULL DEFAULT 0,
    token TEXT NOT NULL,
    short_code TEXT NOT NULL,
    not_after_s INTEGER NOT NULL,
    placed_us INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS orders_box ON orders (gateway, placed_us);

CREATE TABLE IF NOT EXISTS campaigns (   -- every version published; the highest of a number is in force
    campaign INTEGER NOT NULL,           -- the number in signed codes
    version INTEGER NOT NULL,
    definition TEXT NOT NULL,            -- JSON
    published_us INTEGER NOT NULL,
    PRIMARY KEY (campaign, version)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS staff (
    staff_ref TEXT PRIMARY KEY,
    gateway TEXT NOT NULL,
    name TEXT NOT NULL,
    pin_hash TEXT NOT NULL,
    roles TEXT NOT NULL                  -- JSON
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS documents (
    gateway TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (gateway, name)
);

CREATE TABLE IF NOT EXISTS devices (     -- screens, tills and phones paired with a shop
    gateway TEXT NOT NULL,
    device_id TEXT NOT NULL,
    kind TEXT NOT NULL,                  -- 'kiosk', 'pos' or 'phone'
    station TEXT NOT NULL,
    name TEXT NOT NULL,
    paired_by TEXT NOT NULL,             -- a staff reference, or 'box'
    paired_us INTEGER NOT NULL,
    seen_us INTEGER NOT NULL DEFAULT 0,
    asked_us INTEGER NOT NULL DEFAULT 0,    -- headquarters revoked it; 0: it did not
    revoked_us INTEGER NOT NULL DEFAULT 0,  -- the shop confirmed, or revoked it itself
    revoked_by TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (gateway, device_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS retired (     -- revoked boxes; a new enrolment takes them out
    gateway TEXT PRIMARY KEY,
    retired_us INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS openings (    -- what headquarters told starts that could not be believed from their disks alone
    gateway TEXT NOT NULL,
    number INTEGER NOT NULL,             -- version of its document
    epoch TEXT NOT NULL,                 -- the one start it opens
    pressed_us INTEGER NOT NULL,
    counted TEXT NOT NULL,               -- JSON: epoch to the last row of lane 0 that is counted in it
    applied_us INTEGER NOT NULL DEFAULT 0,  -- the box has admitted itself on it
    PRIMARY KEY (gateway, number)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS alarms (      -- what shows that a box runs from an old image of its disk, or that two do
    id INTEGER PRIMARY KEY,
    gateway TEXT NOT NULL,
    kind TEXT NOT NULL,                  -- of `openings.KINDS`
    epoch TEXT NOT NULL,
    other TEXT NOT NULL,                 -- the epoch it does not go together with
    lane INTEGER NOT NULL,
    claimed INTEGER NOT NULL,
    mark INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    settled_us INTEGER NOT NULL DEFAULT 0,  -- an opening pressed after it was applied
    UNIQUE (gateway, kind, epoch, other, lane)
);

CREATE TABLE IF NOT EXISTS fixes (       -- boots whose clock was not believed at first: what the time truly was
    gateway TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    mono_ns INTEGER NOT NULL,            -- at this moment of the boot
    wall_us INTEGER NOT NULL,            -- it was this time
    PRIMARY KEY (gateway, boot_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS undated (     -- rows of boots that have no fix yet, and how they were counted
    stream INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    gateway TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    mono_ns INTEGER NOT NULL,
    wall_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    type TEXT NOT NULL,
    day TEXT NOT NULL,
    zone TEXT NOT NULL,
    dwell_s REAL NOT NULL,
    PRIMARY KEY (stream, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS undated_boot ON undated (gateway, boot_id);

CREATE TABLE IF NOT EXISTS assigned (    -- vouchers and balances that headquarters assigns to one box at a time
    voucher_id TEXT PRIMARY KEY,
    voucher_class INTEGER NOT NULL,      -- of `gateway.token.VoucherClass`
    campaign INTEGER NOT NULL,
    title_zh TEXT NOT NULL,
    title_en TEXT NOT NULL,
    not_after_s INTEGER NOT NULL,
    units INTEGER NOT NULL,              -- uses, or minor units of a balance
    value_minor INTEGER NOT NULL,        -- of one unit
    token TEXT NOT NULL,
    short_code TEXT NOT NULL,
    holder_sha256 TEXT NOT NULL,         -- of the secret in its link, which is in no code that is shown
    issued_us INTEGER NOT NULL,
    stand TEXT NOT NULL                  -- JSON: `gateway.rules.assigning.Stand`
);

CREATE TABLE IF NOT EXISTS holdings (    -- who holds what, and who held it: an index of the stands
    gateway TEXT NOT NULL,
    voucher_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    latest_s INTEGER NOT NULL,           -- the latest end of everything given under that number
    live INTEGER NOT NULL,
    PRIMARY KEY (gateway, voucher_id, number)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS claims (      -- answers to claims: asked again, a box gets the same bytes
    claim_id TEXT PRIMARY KEY,
    gateway TEXT NOT NULL,
    voucher_id TEXT NOT NULL,
    reply BLOB NOT NULL,
    at_us INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS settled (     -- the highest settled mark of each box, from whatever line
    gateway TEXT PRIMARY KEY,
    through_s INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS asked_once (  -- requests that bore an Idempotency-Key, and what they made
    key TEXT PRIMARY KEY,
    asked_sha256 TEXT NOT NULL,          -- of path and body
    identifier TEXT NOT NULL,
    at_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS asked_once_at ON asked_once (at_us);

CREATE TABLE IF NOT EXISTS voucher_channels (  -- what a voucher was issued for: a mailing, a post, an advertisement
    voucher_id TEXT PRIMARY KEY,
    channel TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS vouchers_campaign ON vouchers (campaign);
CREATE INDEX IF NOT EXISTS uses_campaign ON uses (campaign);

CREATE TABLE IF NOT EXISTS destroyed (   -- boxes declared destroyed: they are given nothing any more
    gateway TEXT PRIMARY KEY,
    at_us INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sales (       -- finished sales as tills posted them, each receipt of a till once
    gateway TEXT NOT NULL,
    sale_id TEXT NOT NULL,
    till TEXT NOT NULL,                  -- the device; without one the person
    receipt_id TEXT NOT NULL,
    station TEXT NOT NULL,
    staff TEXT,
    member_ref TEXT,                     -- NULL: an anonymous basket
    currency TEXT NOT NULL,
    total_minor INTEGER NOT NULL,
    lines TEXT NOT NULL,                 -- JSON: [[sku, quantity, price_minor], ...]
    authorization_id TEXT,               -- a hold that was not captured when it was posted
    of_redemption TEXT NOT NULL,         -- how it was joined, or why not: a key of `uplift.HOW`
    of_pickup TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, sale_id)
) WITHOUT ROWID;
CREATE UNIQUE INDEX IF NOT EXISTS sales_receipt ON sales (gateway, till, receipt_id);
CREATE INDEX IF NOT EXISTS sales_moment ON sales (gateway, at_us);
CREATE INDEX IF NOT EXISTS sales_hold ON sales (gateway, authorization_id) WHERE authorization_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS uses_redemption ON uses (redemption_id) WHERE redemption_id <> '';

CREATE TABLE IF NOT EXISTS pickups (     -- who opened which door where, and when the parcel was taken
    gateway TEXT NOT NULL,
    order_id TEXT NOT NULL,
    intent_id TEXT NOT NULL,
    station TEXT NOT NULL,
    staff TEXT,
    at_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    collected INTEGER NOT NULL,          -- 0: the door has only been asked to open
    PRIMARY KEY (gateway, order_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS pickups_moment ON pickups (gateway, at_us);

CREATE TABLE IF NOT EXISTS uplifts (     -- a redemption or a pickup, and the one sale it led to
    gateway TEXT NOT NULL,
    kind TEXT NOT NULL,                  -- 'redemption' or 'pickup'
    act_id TEXT NOT NULL,                -- redemption_id or order_id
    sale_id TEXT NOT NULL,
    how TEXT NOT NULL,                   -- 'named', 'member', 'till' or 'staff'
    PRIMARY KEY (gateway, kind, act_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS uplifts_sale ON uplifts (gateway, sale_id);
CREATE TABLE IF NOT EXISTS members (     -- no name, no number, nothing to reach them by
    member_ref TEXT PRIMARY KEY,         -- random
    region TEXT NOT NULL,                -- ISO 3166 country
    phone_key TEXT,                      -- keyed hash of the telephone number; NULL: known by code or card only
    code TEXT NOT NULL UNIQUE,           -- identifier of the signed code, as `gateway.token.voucher_ref` writes it
    token TEXT NOT NULL,                 -- the code itself, for its QR code
    tier TEXT NOT NULL,
    consents TEXT NOT NULL,              -- JSON: of `gateway.signed.CONSENTS`
    points INTEGER NOT NULL,             -- what shops show; the account is kept elsewhere
    made_us INTEGER NOT NULL,
    change INTEGER NOT NULL,             -- number of the latest change of any member that touched this one
    UNIQUE (region, phone_key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS members_change ON members (region, change);

CREATE TABLE IF NOT EXISTS member_tags ( -- words for staff, gone after their time
    member_ref TEXT NOT NULL,
    tag TEXT NOT NULL,
    not_after_s INTEGER NOT NULL,
    PRIMARY KEY (member_ref, tag)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS member_cards (  -- cards of older systems, by keyed hash
    region TEXT NOT NULL,
    card_key TEXT NOT NULL,
    member_ref TEXT NOT NULL,
    PRIMARY KEY (region, card_key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS member_cards_member ON member_cards (member_ref);

CREATE TABLE IF NOT EXISTS member_lists (  -- of each box: up to which change its whole list goes, and when it was told anything last
    gateway TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    through INTEGER NOT NULL,
    told_us INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS bindings (    -- members joined to redemptions, with their consent
    gateway TEXT NOT NULL,
    redemption_id TEXT NOT NULL,
    member_ref TEXT NOT NULL,
    voucher_id TEXT NOT NULL,
    campaign INTEGER NOT NULL,
    units INTEGER NOT NULL,
    how TEXT NOT NULL,                   -- 'code', 'card', 'phone' or 'voucher'
    at_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, redemption_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS bindings_member ON bindings (member_ref, campaign);
CREATE INDEX IF NOT EXISTS sales_member ON sales (member_ref, at_us) WHERE member_ref IS NOT NULL;

CREATE TABLE IF NOT EXISTS member_visits (  -- when a member was in a shop, by what they did there
    member_ref TEXT NOT NULL,
    gateway TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    PRIMARY KEY (member_ref, gateway, at_us)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS member_visits_moment ON member_visits (gateway, at_us);

CREATE TABLE IF NOT EXISTS accruals (    -- sales that earn points: each is credited once
    gateway TEXT NOT NULL,
    sale_id TEXT NOT NULL,
    member_ref TEXT,                     -- NULL: not known yet
    member_code TEXT,                    -- identifier of the code that was shown
    phone_ref TEXT,                      -- `gateway.phones.sale_ref` of the number that was typed; gone once it is credited
    spent_minor INTEGER NOT NULL,
    currency TEXT NOT NULL,
    state TEXT NOT NULL,                 -- 'waiting' or 'credited'
    tried INTEGER NOT NULL,              -- the latest change of members that was looked at, -1: none
    at_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, sale_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS accruals_state ON accruals (state, tried);

CREATE TABLE IF NOT EXISTS revisits (    -- first visits in so many days that shops asked about: each is settled once
    gateway TEXT NOT NULL,
    revisit_id TEXT NOT NULL,
    campaign INTEGER NOT NULL,
    version INTEGER NOT NULL,
    days INTEGER NOT NULL,
    points INTEGER NOT NULL,
    member_ref TEXT NOT NULL,
    state TEXT NOT NULL,                 -- 'pending', 'granted', 'not_first' or 'no_member'
    settled_us INTEGER NOT NULL,         -- 0: not yet
    at_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, revisit_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS revisits_state ON revisits (state, at_us);

CREATE TABLE IF NOT EXISTS point_entries (  -- the account: whatever a member earned, by the row it came from, once
    gateway TEXT NOT NULL,
    source TEXT NOT NULL,                -- 'sale' or 'revisit'
    source_id TEXT NOT NULL,
    member_ref TEXT NOT NULL,
    points INTEGER NOT NULL,
    at_us INTEGER NOT NULL,              -- it happened
    credited_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, source, source_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS point_entries_member ON point_entries (member_ref, credited_us);

CREATE TABLE IF NOT EXISTS risk_terms (  -- how much shops may take on trust; the highest version of a campaign is in force
    campaign INTEGER NOT NULL,           -- -1: every campaign that has none of its own
    version INTEGER NOT NULL,
    said TEXT NOT NULL,                  -- JSON: `gateway.anywhere.RiskTerms`
    published_us INTEGER NOT NULL,
    PRIMARY KEY (campaign, version)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS shared_uses ( -- uses of vouchers more than one shop may decide on, and how they were settled
    id INTEGER PRIMARY KEY,              -- headquarters' order: who comes first is good
    gateway TEXT NOT NULL,
    epoch TEXT NOT NULL,
    redemption_id TEXT NOT NULL,
    voucher_id TEXT NOT NULL,
    kind TEXT NOT NULL,                  -- 'risk' or 'code'
    campaign INTEGER NOT NULL,           -- of the terms
    bearer TEXT NOT NULL,                -- who bears a loss, by the terms it was taken under
    number INTEGER NOT NULL,             -- of the assignment; 0: taken on trust
    units INTEGER NOT NULL,
    good INTEGER NOT NULL,               -- of them
    exposure_minor INTEGER NOT NULL,
    device TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    reversed INTEGER NOT NULL DEFAULT 0,
    UNIQUE (gateway, redemption_id)
);
CREATE INDEX IF NOT EXISTS shared_uses_voucher ON shared_uses (voucher_id);
CREATE INDEX IF NOT EXISTS shared_uses_lost ON shared_uses (voucher_id) WHERE kind = 'risk' AND reversed = 0 AND good < units;
CREATE INDEX IF NOT EXISTS shared_uses_trusted ON shared_uses (gateway) WHERE kind = 'risk' AND number = 0;

CREATE TABLE IF NOT EXISTS not_on_trust (  -- cancelled, refunded or copied: shops are told by name
    voucher_id TEXT PRIMARY KEY,
    not_after_s INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS open_codes (  -- codes that are the same for everybody; their quota is a stand in `assigned`
    voucher_id TEXT PRIMARY KEY,
    texts TEXT NOT NULL,                 -- JSON: each spelling; everybody may know them
    allotment INTEGER NOT NULL,
    per_member INTEGER NOT NULL,
    lease_s INTEGER NOT NULL,            -- how long a shop holds an allotment
    not_before_s INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS anywhere_told (  -- boxes and the document `anywhere`
    gateway TEXT PRIMARY KEY,
    told_us INTEGER NOT NULL,            -- when it was made last; 0: never
    wanted INTEGER NOT NULL              -- there is something new to tell
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS honoured (    -- uses that no screen is known to have shown and that staff handed over: exposure
    gateway TEXT NOT NULL,
    redemption_id TEXT NOT NULL,
    voucher_id TEXT NOT NULL,
    units INTEGER NOT NULL,
    amount_minor INTEGER NOT NULL,
    why TEXT NOT NULL,                   -- of `gateway.rules.screened.WHYS`
    staff TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, redemption_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS rung (        -- redemptions whose code on the screen a till has taken
    gateway TEXT NOT NULL,
    redemption_id TEXT NOT NULL,
    till_code TEXT NOT NULL,
    station TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, redemption_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS checkin_offers (  -- what a check-in is answered with; '' stands for every shop without one of its own
    store TEXT PRIMARY KEY,
    title_zh TEXT NOT NULL,
    title_en TEXT NOT NULL,
    value_minor INTEGER NOT NULL,
    campaign INTEGER NOT NULL,
    valid_days INTEGER NOT NULL,
    closed INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS checkins (    -- one for each member and day of the shop's
    member_ref TEXT NOT NULL,            -- the app backend's own reference: no phone number
    day TEXT NOT NULL,
    gateway TEXT NOT NULL,
    station TEXT NOT NULL,
    made_s INTEGER NOT NULL,             -- of the code, by the box's clock
    voucher_id TEXT NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (member_ref, day)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS balances (    -- assigned vouchers that are balances, lent to shops in shares; one without a line: money, as asked for
    voucher_id TEXT PRIMARY KEY,
    unit TEXT NOT NULL,                  -- 'minor' or 'points'
    share INTEGER NOT NULL,              -- a shop is lent at least so much when it asks, while there is as much
    lease_s INTEGER NOT NULL             -- for so long
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS lends (       -- shares that headquarters wants to lie at a box ahead of need, until the box has claimed them
    gateway TEXT NOT NULL,
    voucher_id TEXT NOT NULL,
    units INTEGER NOT NULL,
    at_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, voucher_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS assigned_uses (  -- uses under an assignment, so that a reversal finds what it takes back
    gateway TEXT NOT NULL,
    redemption_id TEXT NOT NULL,
    voucher_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    epoch TEXT NOT NULL,                 -- the start that spent
    units INTEGER NOT NULL,
    PRIMARY KEY (gateway, redemption_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS voucher_members (  -- vouchers issued for one member, who agreed to be joined to their use
    voucher_id TEXT PRIMARY KEY,
    member_ref TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS voucher_members_member ON voucher_members (member_ref);

CREATE TABLE IF NOT EXISTS point_accounts (  -- whose points lie in which balance
    voucher_id TEXT PRIMARY KEY,
    member_ref TEXT NOT NULL,
    untold INTEGER NOT NULL              -- points were spent or came back, and shops have not been told yet
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS point_accounts_member ON point_accounts (member_ref);

CREATE TABLE IF NOT EXISTS member_consents (  -- the last word of a member on a consent, here or at a shop's screen
    member_ref TEXT NOT NULL,
    consent TEXT NOT NULL,               -- of `gateway.signed.CONSENTS`
    given INTEGER NOT NULL,              -- 0: withdrawn
    text_version TEXT NOT NULL,          -- of the text on the screen; '' where headquarters was told
    gateway TEXT NOT NULL,               -- '' where headquarters was told
    at_us INTEGER NOT NULL,
    untold INTEGER NOT NULL,             -- shops have not been told yet
    PRIMARY KEY (member_ref, consent)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS sale_returns (  -- goods of a sale that came back; never more than was sold, whatever an old disk took twice
    gateway TEXT NOT NULL,
    return_id TEXT NOT NULL,
    sale_id TEXT NOT NULL,
    till TEXT NOT NULL,
    refund_id TEXT NOT NULL,             -- the till's slip
    station TEXT NOT NULL,
    staff TEXT,
    lines TEXT NOT NULL,                 -- JSON list of line, SKU, quantity, price: as they count
    minor INTEGER NOT NULL,              -- paid back, as far as it counts
    over_minor INTEGER NOT NULL,         -- paid back beyond what was left of the sale
    state TEXT NOT NULL,                 -- 'waiting' until points were looked at, 'settled', or 'unknown_sale'
    points INTEGER NOT NULL,             -- taken back
    at_us INTEGER NOT NULL,
    received_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, return_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS sale_returns_sale ON sale_returns (gateway, sale_id);
CREATE INDEX IF NOT EXISTS sale_returns_state ON sale_returns (state);

CREATE TABLE IF NOT EXISTS point_debts ( -- points to be taken back that were spent, or lie with shops
    member_ref TEXT PRIMARY KEY,
    points INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS point_rates ( -- how many points a sale earns; every version is kept
    version INTEGER PRIMARY KEY,
    definition TEXT NOT NULL,            -- JSON of `gateway.rules.points.PointsRate`
    published_us INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS accrual_rates (  -- the rate a sale's row stated; none: a row of before rates were stated
    gateway TEXT NOT NULL,
    sale_id TEXT NOT NULL,
    rate TEXT NOT NULL,                  -- JSON of `gateway.bound.RateUsed`
    PRIMARY KEY (gateway, sale_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS limits_untold (  -- members who used something that limits them, of which other shops have not heard yet
    member_ref TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS openings_counting (  -- openings that say how often members used what limits them; earlier releases did not
    gateway TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (gateway, number)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS signins (     -- who may enter headquarters beside the admin token
    name TEXT PRIMARY KEY,               -- never used again once revoked: the journal stays unambiguous
    key_id TEXT NOT NULL UNIQUE,         -- stands in the key, in clear
    secret_hash TEXT NOT NULL,           -- keyed hash of the key's random part
    roles TEXT NOT NULL,                 -- JSON: of `roles.Role`
    made_us INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    revoked_us INTEGER NOT NULL DEFAULT 0,
    revoked_by TEXT NOT NULL DEFAULT ''
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS deeds (       -- the office's journal: every refused and every sensitive action, with who did it
    id INTEGER PRIMARY KEY,
    at_us INTEGER NOT NULL,
    who TEXT NOT NULL,                   -- '' nobody known
    route TEXT NOT NULL,                 -- of `roles.TABLE`
    about TEXT NOT NULL,                 -- what it was done to; no query, no body, nothing that looks like a card or a telephone
    status INTEGER NOT NULL              -- of the answer; 0: begun, and not known to have ended
);
CREATE INDEX IF NOT EXISTS deeds_at ON deeds (at_us);

CREATE TABLE IF NOT EXISTS campaign_sheets (  -- what each version of a box's document `campaigns` says
    gateway TEXT NOT NULL,
    version INTEGER NOT NULL,
    said TEXT NOT NULL,                  -- JSON: campaign to its version
    told_us INTEGER NOT NULL,
    PRIMARY KEY (gateway, version)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS applied (     -- the highest version of each document that a box has told to be in force
    gateway TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    at_us INTEGER NOT NULL,              -- by the box's clock
    PRIMARY KEY (gateway, name)
) WITHOUT ROWID;

CREATE INDEX IF NOT EXISTS claims_at ON claims (at_us);
CREATE TABLE IF NOT EXISTS claims_ended (  -- claims that their box has told to be over: it never asks again, nor does a disk not older
    claim_id TEXT PRIMARY KEY
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS trimmed (     -- what is kept no longer: totals stay
    name TEXT PRIMARY KEY,               -- 'claims', 'deeds' or 'journal'
    n INTEGER NOT NULL,
    at_us INTEGER NOT NULL
) WITHOUT ROWID;
