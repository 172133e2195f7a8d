"""Where organisations hear of what happens, what happened, and how each sending of it went."""

import django.db.models.deletion
import functools
import kindling_platform.common.clock
import kindling_platform.common.ids
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('accounts', '0006_mfa_required'),
    ]

    operations = [
        migrations.CreateModel(
            name='Endpoint',
            fields=[
                ('created_at', models.DateTimeField(default=kindling_platform.common.clock.now, editable=False)),
                ('id', models.CharField(default=functools.partial(kindling_platform.common.ids.new_id, *('whk',), **{}), editable=False, max_length=32, primary_key=True, serialize=False)),
                ('url', models.CharField(max_length=500)),
                ('description', models.CharField(blank=True, max_length=200)),
                ('events', models.JSONField(default=list)),
                ('enabled', models.BooleanField(default=True)),
                ('enabled_at', models.DateTimeField()),
                ('off_reason', models.CharField(blank=True, max_length=300)),
                ('secret_sealed', models.BinaryField()),
                ('old_secret_sealed', models.BinaryField(null=True)),
                ('old_secret_until', models.DateTimeField(null=True)),
                ('failing_since', models.DateTimeField(null=True)),
                ('organisation', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='webhooks', to='accounts.organisation')),
            ],
        ),
        migrations.CreateModel(
            name='Event',
            fields=[
                ('created_at', models.DateTimeField(default=kindling_platform.common.clock.now, editable=False)),
                ('id', models.CharField(default=functools.partial(kindling_platform.common.ids.new_id, *('evt',), **{}), editable=False, max_length=32, primary_key=True, serialize=False)),
                ('type', models.CharField(max_length=40)),
                ('key', models.CharField(max_length=120, null=True)),
                ('data', models.JSONField(default=dict)),
                ('organisation', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.organisation')),
            ],
        ),
        migrations.CreateModel(
            name='Delivery',
            fields=[
                ('created_at', models.DateTimeField(default=kindling_platform.common.clock.now, editable=False)),
                ('id', models.CharField(default=functools.partial(kindling_platform.common.ids.new_id, *('dlv',), **{}), editable=False, max_length=32, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('delivered', 'Delivered'), ('failed', 'Failed')], default='waiting', max_length=9)),
                ('attempts', models.PositiveSmallIntegerField(default=0)),
                ('due_at', models.DateTimeField()),
                ('asked_at', models.DateTimeField(null=True)),
                ('attempted_at', models.DateTimeField(null=True)),
                ('took_ms', models.PositiveIntegerField(null=True)),
                ('status_code', models.PositiveSmallIntegerField(null=True)),
                ('answer', models.CharField(blank=True, max_length=1024)),
                ('error', models.CharField(blank=True, max_length=300)),
                ('lease_token', models.CharField(blank=True, max_length=32)),
                ('lease_expires_at', models.DateTimeField(null=True)),
                ('organisation', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to='accounts.organisation')),
                ('endpoint', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='hooks.endpoint')),
                ('event', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='deliveries', to='hooks.event')),
            ],
        ),
        migrations.AddIndex(
            model_name='endpoint',
            index=models.Index(fields=['organisation', '-created_at'], name='hooks_endpoint_of_org'),
        ),
        migrations.AddIndex(
            model_name='event',
            index=models.Index(fields=['created_at'], name='hooks_event_old'),
        ),
        migrations.AddConstraint(
            model_name='event',
            constraint=models.UniqueConstraint(fields=('organisation', 'key'), name='one_hook_event'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(fields=['endpoint', '-created_at', '-id'], name='hooks_delivery_newest'),
        ),
        migrations.AddIndex(
            model_name='delivery',
            index=models.Index(condition=models.Q(('state', 'waiting')), fields=['endpoint', 'due_at', 'id'], name='hooks_delivery_due'),
        ),
        migrations.AddConstraint(
            model_name='delivery',
            constraint=models.UniqueConstraint(fields=('endpoint', 'event'), name='one_hook_delivery'),
        ),
    ]
