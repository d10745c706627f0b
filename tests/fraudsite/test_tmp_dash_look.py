import os, time, statistics
from pathlib import Path
import pytest
from django.core.cache import cache
from django.db import connection
from django.contrib.auth.models import Group
from django.test import Client
from fraudsite import worked
from fraudsite.roles import seed_groups
from scoring.models import Rule, RuleVersion, ReasonCode, Release, ModelVersion, LaneCursor
from tests.factories import make_lane, make_client, make_release, make_queue, make_user, make_close_reason
N = int(os.environ.get("DASH_N", "60000"))
C = int(os.environ.get("DASH_C", "3000"))
OUT = Path("/tmp/dash_shots"); OUT.mkdir(exist_ok=True)

def sql(text, **v):
    t=time.monotonic()
    with connection.cursor() as c:
        c.execute(text, v)
    print(f"{time.monotonic()-t:6.1f} s  {text.strip()[:60]}", flush=True)

def seed():
    lane = make_lane(); make_client(lane); release = make_release(lane)
    reason = ReasonCode.objects.create(code="VELOCITY", title="x", description="x", source="rule")
    vs = []
    for n,(code,name) in enumerate([("R-201","Payee on list"),("R-114","New device, new payee"),("R-018","Card testing"),("R-052","Just under limit"),("R-077","Impossible travel"),("R-090","Gift cards, night")]):
        r = Rule.objects.create(lane=lane, code=code, name=name)
        vs.append(RuleVersion.objects.create(rule=r, number=n+1, expression="true", reason=reason, sentence="x", created_by="t"))
    model = ModelVersion.objects.create(lane=lane, version="2026.08.14-1", stage="champion", artefact="x", sha256="0"*64, kernel_version=1, card={}, metrics={"test":{"calibration":[{"promised":0.0001*3**i,"actual":0.00011*3**i,"payments":5000} for i in range(8)]}}, created_by="schedule")
    Release.objects.filter(pk=release.pk).update(model=model, rules=[{"version":v.pk,"mode":"shadow" if i==5 else "live"} for i,v in enumerate(vs)])
    names=["Payments","Cards","Account takeover","Merchants"]
    queues=[make_queue(name=n, lane=lane) for n in names]
    make_close_reason()
    seed_groups(); users={}
    for u,(f,l,role) in {"lead":("Maren","Lindqvist","team_lead"),"ines":("Ines","Verbeek","investigator"),"tomas":("Tomás","Oliveira","investigator"),"owen":("Owen","Pryce","auditor"),"davide":("Davide","Conti","model_admin")}.items():
        users[u]=make_user(u, first_name=f, last_name=l, password="pw"); users[u].groups.add(Group.objects.get(name=role))
        for q in queues: q.members.add(users[u])
    sql("SELECT extend_partitions('transaction', 16777216, %(n)s)", n=N)
    sql("""INSERT INTO transaction (id, occurred_at, received_at, amount, amount_base, balance_before, customer, account, card, device, ip, merchant, terminal, counterparty, client, import_job, customer_since, account_opened, session_age, lat, lon, lane, intake, type, stage, direction, channel, instrument, currency, mcc, customer_country, account_country, issuer_country, merchant_country, counterparty_country, location_country, segment, scheme, funding, entry_mode, authentication, sca, exemption, three_ds, cvv_result, avs_result, vop, transfer_scheme, device_flags, birth_year, external_id, customer_ref)
    SELECT i, at, at, a, a, 0, 1000+(h %% 9000), 0, 0, 20000+(h %% 4000), 0, 50000+(h %% 300), 0, 0, (SELECT min(id) FROM transactions_apiclient), 0, 0, 0, -1, 'NaN', 'NaN', %(lane)s, 1, 1, 1, 1, (ARRAY[2,2,2,1,1,4,5,3])[1+h%%8], 1, 978, -1, 0,0,0, (ARRAY[165,165,165,210,620,613,467,133])[1+(h/8)%%8],0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,'ext-'||i,'cust-'||(h %% 9000)
    FROM (SELECT i, now() - interval '90 days' * (1 - i::float/%(n)s) + interval '5 hours' * 0 AS at, (abs(hashint8(i)) ) AS h, (500 + abs(hashint8(i+7)) %% 90000)::bigint AS a FROM generate_series(1,%(n)s) i) s""", n=N, lane=lane.pk)
    sql("SELECT setval('transaction_id_seq', %(n)s)", n=N)
    sql("""INSERT INTO decision (id, transaction_id, seq, decided_at, latency, release_id, probability, margin, lane, screening, outcome, score, band, degraded, kernel_version, rule_hits, features)
    SELECT id*64+1, id, id, received_at + interval '9 ms', (exp(random()*1.6)*6000)::int, %(r)s, s/1000.0, 0, lane, 1, CASE WHEN s>=950 THEN 4 WHEN s>=880 THEN 3 WHEN s>=820 THEN 2 ELSE 1 END, s, 0, CASE WHEN id %% 9973=0 THEN 1 ELSE 0 END, 1,
      CASE WHEN s>=820 THEN set_byte('\\x000000000000'::bytea, (id %% 6)::int, 1) ELSE '\\x000000000000'::bytea END, ''
    FROM (SELECT t.*, least(999, floor(1000*power(abs(hashint8(id*3))/2147483648.0, 1.0 + 8.0)))::int AS s FROM transaction t) x""", r=release.pk)
    sql("INSERT INTO lane_log (lane, seq, epoch, token, kind, transaction_id) SELECT lane, id, 0, '00000000-0000-0000-0000-000000000001', 1, id FROM transaction")
    LaneCursor.objects.create(lane=lane, token="00000000-0000-0000-0000-000000000001", seq=N, mark=N)
    sql("""INSERT INTO label (id, lane, transaction_id, verdict, source, fraud_type, happened_at, known_at, recorded_at)
    SELECT row_number() over (), d.lane, d.transaction_id, CASE WHEN f THEN 2 ELSE 1 END, 4, 2, d.decided_at, d.decided_at, now()
    FROM (SELECT d.*, abs(hashint8(transaction_id*5)) %% 1000 < greatest(score-500, 1) AS f FROM decision d) d WHERE outcome > 1 AND abs(hashint8(id)) %% 10 < 8 OR outcome = 1 AND f AND score > 400""")
    sql("SELECT setval('label_id_seq', (SELECT max(id) FROM label))")
    sql("""INSERT INTO alert (id, decision_id, lane, seq, raised_at, occurred_at, outcome, score, severity, customer, customer_ref, merchant, device, amount, currency, amount_base, channel, country, hold_until, top_reason, reasons, rules)
    SELECT t.id, d.id, d.lane, d.seq, d.decided_at, t.occurred_at, d.outcome, d.score, 2, t.customer, t.customer_ref, t.merchant, t.device, t.amount, t.currency, t.amount_base, t.channel, t.merchant_country, CASE WHEN d.outcome=3 THEN d.decided_at + interval '2 hours' END, '7 payments in 10 min; usual 0–1', '[]', '[]' FROM decision d JOIN transaction t ON t.id=d.transaction_id WHERE d.outcome > 1""")
    reason_code="customer_denies"
    qs=[q.pk for q in queues]; us=[users[k].pk for k in ("lead","ines","tomas")]
    sql("""INSERT INTO "case" (id, lane_id, queue_id, grouping_key, customer, customer_ref, status, disposition, fraud_type, close_reason_id, rationale, priority, score, top_reason, amount, currency, amount_base, alert_count, channel, country, opened_at, last_alert_at, due_at, assignee_id, tags, wake_on, closed_at, closed_by_id, closed_in_bulk, version)
    SELECT i, %(lane)s, (%(qs)s::int[])[1+h%%4], i, 1000+(h %% 9000), 'cust-'||(h %% 9000), 'closed', (ARRAY['confirmed_fraud','legitimate','legitimate','legitimate_useful','suspected_fraud','inconclusive','duplicate'])[1+h%%7], 0, %(rc)s, 'because of it', 1+h%%4, 800, 'x', 10000, 978, 10000, 1, 2, 165, o, o, o + interval '2 hours', NULL, '{}', '', o + interval '1 min' * (10+ h%%130), (%(us)s::int[])[1+h%%3], false, 3
    FROM (SELECT i, abs(hashint8(i*11)) AS h, now() - interval '90 days' * (1 - i::float/%(c)s) - interval '3 hours' AS o FROM generate_series(1,%(c)s) i) s""", lane=lane.pk, qs=qs, us=us, rc=reason_code, c=C)
    sql("""INSERT INTO case_event (case_id, kind, at, actor_id, before, after, note, data) SELECT id, 'opened', opened_at, NULL, '', 'new', '', '{}' FROM "case" """)
    sql("""INSERT INTO case_event (case_id, kind, at, actor_id, before, after, note, data) SELECT id, 'claimed', opened_at + (closed_at-opened_at)*0.4, closed_by_id, 'new', 'in_review', '', '{}' FROM "case" """)
    sql("""INSERT INTO case_event (case_id, kind, at, actor_id, before, after, note, data) SELECT id, 'closed', closed_at, closed_by_id, 'in_review', 'closed', '', '{}' FROM "case" """)
    K=min(10000, C//5)
    sql("""INSERT INTO "case" (id, lane_id, queue_id, grouping_key, customer, customer_ref, status, disposition, fraud_type, rationale, priority, score, top_reason, amount, currency, amount_base, alert_count, channel, country, opened_at, last_alert_at, due_at, tags, wake_on, closed_in_bulk, version)
    SELECT %(c)s+i, %(lane)s, (%(qs)s::int[])[1+h%%4], 1000000+i, 1000+(h %% 9000), 'cust-'||(h %% 9000), 'new', '', 0, '', 1+h%%4, 800, 'x', 10000, 978, 10000, 1, 2, 165, o, o, o + interval '2 hours', '{}', '', false, 1
    FROM (SELECT i, abs(hashint8(i*13)) AS h, now() - interval '40 hours' * power((abs(hashint8(i))%%1000)/1000.0, 3)*3 AS o FROM generate_series(1,%(k)s) i) s""", lane=lane.pk, qs=qs, c=C, k=K)
    sql("ANALYZE")
    return users

@pytest.mark.django_db(transaction=True)
def test_look(live_server):
    users = seed()
    t=time.monotonic(); assert worked.rebuild(); print("rebuild", time.monotonic()-t, flush=True)
    t=time.monotonic(); worked.tally(); print("tally again", time.monotonic()-t, flush=True)
    sql("ANALYZE")
    c = Client(); c.force_login(users["lead"])
    for rng in ("24h","90d"):
        for key in ("overview","fraud","customers","rules","model","desk","rows"):
            url = "/desk/" if key=="overview" else f"/desk/dashboard/{key}/"
            took=[]
            for _ in range(5):
                cache.clear(); t=time.monotonic()
                a=c.get(f"{url}?range={rng}&verdict=fraud"); took.append(1000*(time.monotonic()-t)); assert a.status_code==200
            from django.test.utils import CaptureQueriesContext
            with CaptureQueriesContext(connection) as q: c.get(f"{url}?range={rng}")
            print(f"{key:10} {rng} cold-cache ms median {statistics.median(took):.0f} max {max(took):.0f} queries {len(q)} bytes {len(a.content)}", flush=True)
    if os.environ.get("DASH_LOOK"):
        look(live_server.url, users)

def look(url, users):
    import subprocess, json
    cookies = {}
    for u in ("lead","ines","davide"):
        cl=Client(); cl.force_login(users[u]); cookies[u]=cl.cookies["sessionid"].value if "sessionid" in cl.cookies else next(iter(cl.cookies.values())).value
        name=next(iter(cl.cookies.keys()))
    script = f'''
import json
from playwright.sync_api import sync_playwright
import shutil
with sync_playwright() as p:
    b=p.chromium.launch(executable_path=shutil.which("chromium"), args=["--headless","--no-sandbox","--disable-gpu"])
    for user,sid in json.loads({json.dumps(json.dumps(cookies))}).items():
        for w,theme in ((1280,"light"),(1440,"dark"),(1440,"light")) if user=="lead" else ((1280,"light"),):
            ctx=b.new_context(viewport={{"width":w,"height":900}},color_scheme=theme,reduced_motion="reduce")
            ctx.add_cookies([{{"name":{name!r},"value":sid,"url":{url!r}}}])
            pg=ctx.new_page(); pg.on("console",lambda m: print("CONSOLE",m.text) if m.type=="error" else None)
            for key in ("overview","fraud","customers","rules","model","desk","rows"):
                u={url!r}+("/desk/" if key=="overview" else "/desk/dashboard/"+key+"/")+"?range=30d"+("&verdict=fraud" if key=="rows" else "")
                r=pg.goto(u); 
                if r.status!=200: print(user,key,r.status); continue
                print(key,w,theme,pg.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]"))
                pg.screenshot(path=f"/tmp/dash_shots/{{user}}-{{key}}-{{w}}-{{theme}}.png", full_page=True)
            if user=="lead" and w==1280:
                pg.goto({url!r}+"/desk/dashboard/desk/?range=7d"); pg.get_by_test_id("range-custom").click(); pg.screenshot(path="/tmp/dash_shots/custom.png")
                pg.set_viewport_size({{"width":390,"height":844}}); pg.goto({url!r}+"/desk/?range=30d"); pg.screenshot(path="/tmp/dash_shots/phone.png", full_page=True)
                print("phone", pg.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]"))
            ctx.close()
    b.close()
'''
    Path("/tmp/dash_pw.py").write_text(script)
    import sys
    print(subprocess.run([sys.executable,"/tmp/dash_pw.py"],capture_output=True,text=True,timeout=200))
